"""A language model with its adapter merged into it: for the engines, for transformers, and for llama.cpp and Ollama.

OpenVINO reads SmolLM2's merged weights from a GGUF file in the user's cache.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from bankllm.errors import ModelError, RunError, UsageError, explained
from bankllm.model import base_models, smollm2
from bankllm.model.cached_files import cached_path
from bankllm.model.quiet_loading import quiet_loading
from bankllm.settings import Settings
from bankllm.util.atomic_files import atomic_folder, flush_to_disk
from bankllm.util.file_hash import sha256_of

FORMAT = 1
"""Version of the files. Increase it when their content changes, so that a cached file is not used."""
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_1": 3, "Q8_0": 7}
"""Type of the matrices → number in the file."""
KEPT = 4
"""Files of 270 MB in the cache."""
GGUF = "model.gguf"
MODELFILE = '''FROM ./model.gguf
TEMPLATE """{{ range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
PARAMETER stop "<|im_end|>"
PARAMETER temperature 0
'''
"""For `ollama create NAME -f Modelfile`. The template writes a chat as the tokenizer's chat template does."""


def cached_gguf(base: base_models.BaseModel, adapter: Path | None, kind: str, settings: Settings) -> Path:
    """Return the path of the GGUF file, after writing it if it is missing (10 s). The `KEPT` files used last are kept.

    Raises `ModelError` if the base model is not the packaged SmolLM2, or if the adapter cannot be merged.
    """
    key = hashlib.sha256(f"{FORMAT} {kind} {base.sha256}".encode())
    for path in sorted(adapter.glob("adapter_*")) if adapter else ():
        key.update(f"\n{path.name} {sha256_of(path)}".encode())
    path = cached_path(f"{base.name}-{key.hexdigest()[:16]}.gguf", settings)
    if path.exists():
        with suppress(OSError):  # in a cache of another user
            path.touch()
    else:
        for old in sorted(path.parent.glob(f"{base.name}-*.gguf"), key=lambda file: file.stat().st_mtime)[: 1 - KEPT]:
            old.unlink(missing_ok=True)
        write_gguf(merged_model(base, adapter, settings), base, kind, path)
    return path


def merged_model(base: base_models.BaseModel, adapter: Path | None, settings: Settings, merge: bool = True) -> Any:
    """Load the base model in fp32 on the CPU, and merge the LoRA adapter into it. Raises `ModelError`.

    Without `merge`, the adapter computes beside the layers, as in training.
    """
    import torch
    from transformers import AutoModelForCausalLM

    location = base_models.ready_to_load(base, settings)
    expected = "Expected a causal language model and an adapter that was trained on it."
    with quiet_loading():
        with explained(ModelError, f"The language model {base.name} cannot be loaded", expected):
            options: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True}
            loaded: Any = AutoModelForCausalLM.from_pretrained(location, **options)
        model, report = loaded
        base_models.check_tensors(base, report["missing_keys"])
        if adapter is not None:
            from peft import PeftModel

            with explained(ModelError, f"The adapter {adapter} cannot be loaded on {base.name}", expected):
                if not (adapter / "adapter_config.json").exists():
                    raise FileNotFoundError("adapter_config.json is missing")
                model = PeftModel.from_pretrained(model, str(adapter))
                if merge:
                    model = model.merge_and_unload()
    return model.eval()


def write_gguf(model: Any, base: base_models.BaseModel, kind: str, path: Path) -> None:
    """Write a model of SmolLM2's shape to a GGUF file; matrices as `kind`, vectors in fp32. Complete or not at all.

    Configuration and tokenizer are those of the package's file. Raises `ModelError` for another base model.
    """
    source = smollm2.gguf_file() if base.name == smollm2.NAME else None
    if source is None:
        raise ModelError(
            f"OpenVINO gets its weights as GGUF, which bankllm writes for {smollm2.NAME} only; the base model is "
            f"{base.name}. Use the engine transformers, or install the package: {smollm2.INSTALL}"
        )
    import gguf

    skipped = ("GGUF.", "general.architecture", "general.file_type")
    with _complete(path) as partial:
        writer = gguf.GGUFWriter(partial, arch="llama")
        for field in gguf.GGUFReader(source).fields.values():
            if not field.name.startswith(skipped):
                of = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(field.name, field.contents(), field.types[0], of)
        writer.add_file_type(FILE_TYPES[kind])
        config = model.config
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        for name, tensor in model.state_dict().items():
            if name == "lm_head.weight":  # the same tensor as the embedding
                continue
            array = tensor.float().numpy()
            for projection, count in heads.items():
                if projection in name:  # GGUF has the two halves of each head interleaved
                    rows, columns = array.shape
                    array = array.reshape(count, 2, rows // count // 2, columns).swapaxes(1, 2).reshape(array.shape)
            form = gguf.GGMLQuantizationType["F32" if array.ndim == 1 else kind]
            data = gguf.quantize(np.ascontiguousarray(array), form)
            writer.add_tensor(str(names.get_name(name, try_suffixes=(".weight",))), data, raw_dtype=form)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


@contextmanager
def _complete(path: Path) -> Iterator[Path]:
    """Yield a path to write to; the file is at `path` at the end of the block. Raises `ModelError` on a full disk."""
    advice = "Nothing was kept. Free some space (up to 300 MB), or set BANKLLM_CACHE to another folder."
    with (
        explained(ModelError, f"{path} cannot be written", advice, OSError),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".gguf-") as folder,
    ):
        partial = Path(folder) / path.name
        yield partial
        flush_to_disk(partial)
        partial.replace(path)


def export_merged(base: base_models.BaseModel, adapter: Path | None, output: Path, settings: Settings) -> None:
    """Write weights in fp32 and tokenizer to a new folder, complete or not at all.

    Raises `UsageError` if the folder exists, `ModelError` if the adapter cannot be merged, and `RunError` if the folder
    cannot be written.
    """
    with _new_folder(output) as folder:
        with quiet_loading():
            merged_model(base, adapter, settings).save_pretrained(folder)
        for path in Path(base_models.ready_to_load(base, settings)).iterdir():
            if path.name.startswith(("token", "chat_template", "special_tokens", "vocab", "merges")):
                shutil.copy(path, folder)


def export_gguf(
    base: base_models.BaseModel, adapter: Path | None, output: Path, weights: str, settings: Settings
) -> None:
    """Write `model.gguf`, with matrices of the type `weights`, and Ollama's `Modelfile`. Raises as `export_merged`."""
    if weights not in FILE_TYPES:
        raise UsageError(f"Expected one of the types {', '.join(FILE_TYPES)}, got {weights!r}.")
    with _new_folder(output) as folder:
        write_gguf(merged_model(base, adapter, settings), base, weights, folder / GGUF)
        (folder / "Modelfile").write_text(MODELFILE, encoding="utf-8")


def push(folder: Path, repository: str, settings: Settings) -> None:
    """Upload a folder to a repository of the Hugging Face Hub, which is private if it is new. Raises `RunError`."""
    from huggingface_hub import HfApi

    if settings.offline:
        raise UsageError("BANKLLM_OFFLINE=1 forbids uploads. Unset it to push to the Hub.")
    advice = (
        "It is complete on this machine. Expected a repository USER/NAME, and a token that may write to it in HF_TOKEN."
    )
    with explained(RunError, f"{folder} cannot be uploaded to {repository}", advice):
        HfApi().create_repo(repository, private=True, exist_ok=True)
        HfApi().upload_folder(folder_path=folder, repo_id=repository)


@contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """Yield a folder that becomes `output` when it is complete."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} exists. Choose a new or empty folder.")
    advice = "Nothing was kept. Choose a folder on a disk with enough free space (up to 600 MB for SmolLM2)."
    with explained(RunError, f"The export cannot be written to {output}", advice):
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(output) as folder:
            yield folder
