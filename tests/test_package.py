"""The package as a whole: fast import, documented public names, one repository address, pinned dependencies."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import bankllm
from bankllm import extras
from bankllm.model import smollm2

ROOT = Path(__file__).parents[1]
WORKFLOWS = ROOT / ".github/workflows"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
MANDATORY = PYPROJECT["project"]["dependencies"]
ADDRESS = PYPROJECT["project"]["urls"]["Repository"]
HEAVY = {"torch", "transformers", "pinecone", "peft", "locust", "pandas", "numpy", "matplotlib", "pydantic", "datasets"}


def test_importing_bankllm_loads_nothing_heavy() -> None:
    code = "import bankllm, sys; print(' '.join(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "bankllm" in loaded
    assert HEAVY & set(loaded) == set()


def test_each_public_name_exists_and_is_documented() -> None:
    for name in bankllm.__all__:
        assert getattr(bankllm, name) is not None
        if name != "__version__":
            assert getattr(bankllm, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        bankllm.nothing  # noqa: B018


def test_every_module_has_a_docstring() -> None:
    for path in (ROOT / "bankllm").rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


SAME_ROLE = {"__init__.py", "__main__.py", "commands.py", "errors.py", "store.py"}
"""File names that several folders share for one role, such as the folder's CLI commands or its errors."""


def test_a_file_or_class_name_means_one_thing() -> None:
    files, classes = Counter[str](), Counter[str]()
    for path in (ROOT / "bankllm").rglob("*.py"):
        files[path.name] += path.name not in SAME_ROLE
        classes.update(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef))
    assert [name for name, count in (files + classes).items() if count > 1] == []


def test_the_repository_address_is_the_same_everywhere() -> None:
    owner_and_name = ADDRESS.removeprefix("https://github.com/")
    found = set()
    for path in (*ROOT.glob("notebooks/*.ipynb"), ROOT / "README.md"):
        found |= set(re.findall(r"github\.com/([\w-]+/bankllm)\b", path.read_text()))
        found |= set(re.findall(r"research\.google\.com/github/([\w-]+/bankllm)/", path.read_text()))
    assert found == {owner_and_name}


def package_names(lines: list[str]) -> set[str]:
    """The packages of requirement lines; an extra of bankllm stands for its own packages."""
    names = set[str]()
    for line in lines:
        if own := re.match(r"bankllm\[([\w,]+)\]", line):
            names |= {name for extra in own[1].split(",") for name in package_names(EXTRAS[extra])}
        else:
            names.add(re.sub(r"[._]", "-", re.split(r"[<>=\[;]", line)[0].lower()))
    return names


def test_the_lock_file_pins_every_dependency_in_pyproject() -> None:
    lines = (ROOT / "requirements.lock").read_text().split()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.]*", line) for line in lines)
    pinned = {re.sub(r"[._]", "-", line.split("==")[0].lower()) for line in lines}
    assert package_names([*MANDATORY, *EXTRAS["all"], *EXTRAS["dev"]]) <= pinned
    assert "torch==2.13.0" in lines
    assert f"SMOLLM2 := {smollm2.INSTALL.split()[-1]}\n" in (ROOT / "Makefile").read_text()
    assert len(MANDATORY) <= 12


def imports(path: Path, *, when: str) -> Iterator[str]:
    """The modules that a file imports: `at import` without, and `ever` with the imports inside functions."""
    tree = ast.parse(path.read_text())
    for node in tree.body if when == "at import" else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def packages_imported(*parts: str) -> set[str]:
    """The packages that the modules of these parts of bankllm import, with those of the modules that they import."""
    todo = [path for part in parts for path in (ROOT / "bankllm").glob(part)]
    seen, names = set(todo), set[str]()
    while todo:
        for name in imports(todo.pop(), when="at import"):
            path = ROOT / name.replace(".", "/")
            if name.startswith("bankllm"):
                found = {file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()} - seen
                todo += found
                seen |= found
            else:
                names.add(extras.package_of(name))
    return names - {extras.package_of(name) for name in sys.stdlib_module_names}


@pytest.mark.parametrize(
    ("extra", "parts"),
    [
        ("", ("*.py", "datasets/*.py", "evidence/**/*.py")),
        ("serve", ("serving/**/*.py", "assistant/**/*.py", "telemetry/*.py", "model/*.py")),
        ("train", ("training/**/*.py",)),
        ("load", ("loadtest/**/*.py",)),
        ("vectors", ("vectors/**/*.py",)),
        ("notebooks", ("lab/*.py",)),
    ],
)
def test_each_extra_holds_what_its_modules_import(extra: str, parts: tuple[str, ...]) -> None:
    assert packages_imported(*parts) <= package_names([*MANDATORY, *EXTRAS.get(extra, [])])


def test_every_import_belongs_to_a_dependency() -> None:
    known = package_names([*MANDATORY, *EXTRAS["all"]]) | {"bankllm"}
    for path in (ROOT / "bankllm").rglob("*.py"):
        tops = {name.split(".")[0] for name in imports(path, when="ever")} - sys.stdlib_module_names
        assert {extras.package_of(name) for name in tops} <= known, path


def test_the_version_is_written_only_in_the_package() -> None:
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["hatch"]["version"] == {"path": "bankllm/__init__.py"}
    for path in (ROOT / "deploy").rglob("*.*"):
        assert f"bankllm:{bankllm.__version__}" not in path.read_text(), path


def test_conda_and_ci_files_use_the_lock_file_and_the_make_targets() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["dependencies"][-1] == {"pip": ["-r requirements.lock", "-e ."]}
    workflow = yaml.safe_load((WORKFLOWS / "ci.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    steps = json.dumps(workflow["jobs"]["test"]["steps"])
    commands = (".ci/tools", "make lint", "make test", "make run PROFILE=smoke", "bankllm verify")
    assert all(command in steps for command in commands)
    nightly = yaml.safe_load((WORKFLOWS / "nightly.yml").read_text())
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^(test-\w+|coverage):", makefile, re.MULTILINE)) - {"test-fast"}
    assert set(nightly["jobs"]["long"]["strategy"]["matrix"]["target"]) == targets
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    assert all(f"`make {target}`" in guide for target in targets)


@pytest.mark.slow
def test_the_files_for_github_match_their_schemas() -> None:
    forms = [path for path in (ROOT / ".github/ISSUE_TEMPLATE").iterdir() if path.name != "config.yml"]
    files = {
        "workflows": sorted(WORKFLOWS.iterdir()),
        "issue-forms": forms,
        "issue-config": [ROOT / ".github/ISSUE_TEMPLATE/config.yml"],
    }
    checks = {f"vendor.github-{kind}": paths for kind, paths in files.items()}
    checks["vendor.dependabot"] = [ROOT / ".github/dependabot.yml"]
    for schema, paths in checks.items():
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, paths)]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_hook_before_a_commit_runs_a_program_of_the_environment() -> None:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]  # nothing is downloaded
    *programs, subject = repositories[0]["hooks"]
    for hook in programs:
        program = hook["entry"].split()[0].removeprefix(".venv/bin/")
        assert shutil.which(program, path=str(Path(sys.executable).parent)), hook["entry"]
    for first_line, fits in (("area: do it", True), ("Do it", False), (f"area: {'x' * 67}", False)):
        assert bool(re.search(subject["entry"], f"{first_line}\n\nWhy.\n", re.MULTILINE)) is fits
