"""The user's cache: files that bankllm makes from models, such as exported graphs and converted weights."""

import os
from pathlib import Path

from bankllm.settings import Settings
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
