"""The complete pipeline at its smallest size: real server, load and training, and a run that verifies."""

import subprocess
import sys
from pathlib import Path

import pytest

from bankllm.evidence.manifest import read_manifest
from bankllm.evidence.records import read_records
from bankllm.evidence.report.render import renderer
from bankllm.evidence.verification.verify import verify
from bankllm.pipeline import notebooks


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_smoke_run_produces_a_report_that_verifies(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "bankllm", "run", "--profile", "smoke", "--output", str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / (tmp_path / "LATEST").read_text().strip()
    assert f"Report: {folder / 'RESULTS.html'}" in done.stdout
    names = [notebook.name for notebook in notebooks()]
    for name in names:
        assert f"{name}: done, " in done.stdout
        assert (folder / "notebooks" / f"{name}.ipynb").exists()

    verdict = verify(folder)
    assert verdict.holds, verdict.findings
    records = {record.id: record for record in read_records(folder)}
    assert len(records) >= 50
    pages = {"RESULTS.md", "RESULTS.html", "RESUME.md", *(f"notebooks/{name}.ipynb" for name in names)}
    trained = {f"adapters/{path.name}" for path in (folder / "adapters").iterdir()}
    assert len(trained) == 5
    assert {finding.subject for finding in verdict.findings} == records.keys() | pages | trained
    command = [sys.executable, "-I", folder / "verify.pyz"]
    standalone = subprocess.run(command, capture_output=True, text=True, check=False)
    assert standalone.stdout.splitlines()[-1] == verdict.summary()
    for required in ("chat.sequential.p50_ms", "load.locust.throughput", "vectors.search.p50_ms"):
        assert records[required].status == "measured"
    for configuration in ("probe", "lora_r8", "qlora_r8"):
        assert records[f"training.{configuration}.accuracy"].value > 0.6
        card = folder / "adapters" / configuration / "README.md"
        assert card.read_text(encoding="utf-8").startswith("---")
    on_texts = {id_ for id_, record in records.items() if "corpus" in record.conditions}
    of_texts = ("chat.conversations", "vectors.articles", "vectors.answerable", "language.")
    assert on_texts == {id_ for id_ in records if id_.startswith(of_texts)}
    others = [records[id_].conditions["dataset"] for id_ in records.keys() - on_texts]
    assert {name.split("[")[0] for name in others} == {"teller77"}

    manifest = read_manifest(folder)
    assert (manifest.complete, manifest.renderer) == (True, renderer())
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert manifest.files.keys() == files - {"manifest.json"}
    results = (folder / "RESULTS.md").read_text(encoding="utf-8")
    assert "LoRA r=8" in results
    assert "Reported by others" not in results  # the published numbers are on Banking77, this run is not
    assert "data:image/png;base64," in (folder / "RESULTS.html").read_text(encoding="utf-8")
