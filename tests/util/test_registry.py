"""The registry: parts of this package's folder, parts of other packages by entry point, and clear errors."""

import importlib
import sys
from pathlib import Path

import pytest

from bankllm.errors import UsageError
from bankllm.util.registry import Registry

MODULE = """
from {package} import PARTS

@PARTS.register("{name}")
def part():
    return "{name}"
"""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry with the parts `a` and `b` in its folder, and the entry point `c` of an installed distribution."""
    package = f"parts_{tmp_path.name}"
    (tmp_path / package).mkdir()
    source = f"from bankllm.util.registry import Registry\nPARTS = Registry('part', 'bankllm.parts', '{package}')\n"
    (tmp_path / package / "__init__.py").write_text(source)
    for name in "ab":
        (tmp_path / package / f"{name}.py").write_text(MODULE.format(package=package, name=name))
    (tmp_path / f"other_{package}.py").write_text("def part():\n    return 'c'\n")
    information = tmp_path / "other-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[bankllm.parts]\nc = other_{package}:part\n")
    monkeypatch.syspath_prepend(tmp_path)
    return __import__(package).PARTS


def test_parts_of_the_folder_and_of_other_packages_are_found(registry: Registry) -> None:
    module = importlib.import_module(f"{registry.folder}.b")  # the order does not depend on what was imported first
    assert list(registry) == ["a", "b", "c"]
    assert [registry.get(name)() for name in "abc"] == ["a", "b", "c"]
    assert registry.get("b") is module.part
    assert "d" not in registry


def test_modules_are_imported_at_the_first_lookup(registry: Registry) -> None:
    assert f"{registry.folder}.a" not in sys.modules
    assert "c" in registry
    assert f"{registry.folder}.a" in sys.modules


def test_an_unknown_name_lists_the_names_and_how_to_add_one(registry: Registry) -> None:
    with pytest.raises(UsageError, match=r"Unknown part 'x'. Expected one of: a, b, c.*group bankllm.parts"):
        registry.get("x")


def test_a_name_is_registered_once(registry: Registry) -> None:
    part = registry.get("a")
    registry.add("a", part)  # the same part again, as when its module is imported twice
    with pytest.raises(UsageError, match="two parts named 'a'"):
        registry.add("a", object())
