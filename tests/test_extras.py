"""A missing package is reported with the extra that contains it."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError

import pytest

from bankllm import extras

METADATA = [
    "typer>=0.19",
    "numpy>=1.26; extra == 'all'",
    "scikit-learn>=1.5; extra == 'all'",
    "uvicorn>=0.54; extra == 'all'",
    "no-such-package>=1; extra == 'all'",
    "pytest>=8; extra == 'dev'",
    "numpy>=1.26; extra == 'serve'",
    "uvicorn[standard]>=0.54; extra == 'serve'",
    "uvloop>=0.20; (sys_platform != 'win32') and extra == 'serve'",
    "numpy>=1.26; extra == 'train'",
    "scikit-learn>=1.5; extra == 'train'",
]
"""As Hatchling writes it: an extra that contains others has their packages."""


@pytest.fixture(autouse=True)
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(extras, "requires", lambda name: METADATA)
    extras.packages.cache_clear()
    yield
    extras.packages.cache_clear()


@pytest.mark.parametrize(
    ("module", "command", "message"),
    [
        ("uvicorn.config", "serve", "`bankllm serve` needs the package uvicorn, which is not installed. Run: pip"),
        ("numpy", "train", "'bankllm[train]'"),
        ("numpy", "serve", "'bankllm[serve]'"),
        ("numpy", "index", "'bankllm[train]'"),
        ("no_such_package", "run", "'bankllm[all]'"),
        ("uvloop", "train", "'bankllm[serve]'"),
        (
            "sklearn",
            "",
            "This needs the package scikit-learn, which is not installed. Run: pip install 'bankllm[train]'",
        ),
        ("typer", "verify", "pip install 'bankllm'"),
    ],
)
def test_a_missing_package_is_reported_with_its_extra(module: str, command: str, message: str) -> None:
    found = extras.explained(ModuleNotFoundError("No module", name=module), command)
    assert message in str(found)
    assert isinstance(found, extras.PackageMissing)
    assert (found.name, found.exit_code) == (module, 2)


def test_a_module_of_no_extra_stays_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pytest", "bankllm.nothing", None):
        fault = ModuleNotFoundError("No module", name=name)
        assert extras.explained(fault) is fault

    def none(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "requires", none)
    extras.packages.cache_clear()
    assert extras.explained(fault) is fault


def test_packages_that_are_not_installed() -> None:
    assert extras.packages()["serve"] == ["numpy", "uvicorn", "uvloop"]
    assert extras.not_installed("all") == ["no-such-package"]
    assert extras.not_installed("") == []


def test_a_public_name_says_which_extra_it_needs() -> None:
    code = "import sys; sys.modules['numpy'] = None; import bankllm; bankllm.VectorService"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "PackageMissing: This needs the package numpy, which is not installed. Run: pip install" in done.stderr
