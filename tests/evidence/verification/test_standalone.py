"""`verify.py` of a run: it holds the source of the package, and it needs only the standard library."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from bankllm.errors import RunError
from bankllm.evidence.verification import run_checks, standalone


def test_it_holds_the_unchanged_modules_and_imports_only_the_standard_library() -> None:
    text = standalone.standalone()
    package = Path(run_checks.__file__).parent
    modules = standalone._dependency_order(standalone.ENTRY)
    assert modules[-1] == "bankllm.evidence.verification.run_checks"
    assert {"bankllm.errors", "bankllm.evidence.statistics.registry", "bankllm.evidence.format"} <= set(modules)
    for line in (package.parent / "statistics" / "registry.py").read_text(encoding="utf-8").splitlines():
        assert line in text or line.startswith("from bankllm")
    ast.parse(text)
    assert "import bankllm." not in text
    assert "from bankllm." not in text
    assert max(map(len, text.splitlines())) < 400


def test_a_module_that_imports_a_package_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standalone, "_source", lambda module: "import numpy as np\n")
    with pytest.raises(RunError, match=r"imports numpy\. The standalone verifier has only the standard library"):
        standalone._dependency_order("bankllm.evidence.verification.run_checks")


def test_wrong_usage_and_a_missing_manifest_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "verify.py"
    path.write_text(standalone.standalone(), encoding="utf-8")
    call = [sys.executable, "-I", "-S", path]
    wrong = subprocess.run([*call, "--fast"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr) == (2, "usage: python3 RUN_DIR/verify.py [--json]\n")
    none = subprocess.run(call, capture_output=True, text=True, check=False)
    assert none.returncode == 1
    assert "is not a run: manifest.json is missing" in none.stderr
