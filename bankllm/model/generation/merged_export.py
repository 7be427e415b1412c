"""Export a language model with its adapter merged into it: for transformers, or as GGUF for llama.cpp and Ollama."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bankllm.errors import ModelError, RunError, UsageError
from bankllm.model import base_models
from bankllm.model.generation.gguf_file import FILE_TYPES, merged_model, write_gguf
from bankllm.model.quiet_loading import quiet_loading
from bankllm.settings import Settings
from bankllm.util.atomic_files import atomic_folder

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
    try:
        HfApi().create_repo(repository, private=True, exist_ok=True)
        HfApi().upload_folder(folder_path=folder, repo_id=repository)
    except Exception as error:  # of the Hub, of httpx and of the file system, without a common base
        raise RunError(
            f"{folder} cannot be uploaded to {repository} ({type(error).__name__}). It is complete on this machine. "
            "Expected a repository USER/NAME, and a token that may write to it in HF_TOKEN."
        ) from error


@contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """Yield a folder that becomes `output` when it is complete."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} exists. Choose a new or empty folder.")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(output) as folder:
            yield folder
    except ModelError:
        raise
    except Exception as error:  # safetensors has errors of its own for a full disk
        raise RunError(
            f"The export cannot be written to {output} ({type(error).__name__}: {str(error)[:200]}). Nothing was kept. "
            "Choose a folder on a disk with enough free space (up to 600 MB for SmolLM2)."
        ) from error
