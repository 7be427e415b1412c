"""The measured runs in the repository verify, and the numbers in the README agree with them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bankllm.evidence.claim_syntax import find_tokens
from bankllm.evidence.claims import audit_claims
from bankllm.evidence.manifest import MANIFEST, read_manifest
from bankllm.evidence.share.publish import MAX_BYTES, WEIGHTS
from bankllm.evidence.verification.verify import verify

ROOT = Path(__file__).parents[1]
KEPT = sorted(path.parent for path in (ROOT / "outputs").glob(f"reference*/**/{MANIFEST}"))


def test_the_reference_run_is_in_the_repository() -> None:
    assert ROOT / "outputs" / "reference" in KEPT


@pytest.mark.slow
@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: str(folder.relative_to(ROOT / "outputs")))
def test_a_kept_run_verifies_with_both_verifiers(folder: Path) -> None:
    verdict = verify(folder)
    assert verdict.holds, verdict.summary()
    (verifier,) = folder.glob("verify.py*")  # verify.py in runs before 0.2
    own = subprocess.run([sys.executable, "-I", "-S", verifier], capture_output=True, text=True, check=False)
    assert own.returncode == 0, own.stdout
    assert read_manifest(folder).git_dirty is False


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: str(folder.relative_to(ROOT / "outputs")))
def test_a_kept_run_has_no_weights_no_local_paths_and_limited_size(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in WEIGHTS]
    assert sum(path.stat().st_size for path in files) < MAX_BYTES
    notebooks = [path.read_text(encoding="utf-8") for path in files if path.suffix == ".ipynb"]
    assert not re.search(r'"(input_path|output_path|run_dir)": "/', "".join(notebooks))


@pytest.mark.slow
def test_every_number_of_the_readme_is_bound_to_the_reference_run() -> None:
    readme = ROOT / "README.md"
    assert len({token.id for token in find_tokens(readme.read_text(encoding="utf-8"))}) >= 6
    assert audit_claims(readme, ROOT / "outputs" / "reference") == []


@pytest.mark.slow
def test_the_signatures_of_the_kept_runs_hold_as_the_guide_checks_them() -> None:
    guide = (ROOT / "docs" / "guides" / "evidence.md").read_text(encoding="utf-8")
    commands = re.findall(r"^bankllm (verify outputs/reference.*)$", guide, re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        program = [sys.executable, "-m", "bankllm", *command.split()]
        done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
