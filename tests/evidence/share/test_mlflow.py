"""Log a run to a real MLflow store on disk."""

import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from bankllm.errors import RunError, UsageError
from bankllm.evidence.records import read_records
from bankllm.evidence.share.mlflow import log_run, metrics_of


def test_values_conditions_and_files_are_logged(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # MLflow 3 writes to a plain folder only if this variable is set. A server or database does not need it.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = (tmp_path / "mlruns").as_uri()
    client = mlflow.MlflowClient(tracking_uri=store)
    logged = client.get_run(log_run(folder, store))
    assert logged.info.run_name == "one"
    assert logged.info.status == "FINISHED"
    assert logged.data.metrics["training.lora_r8.accuracy"] == 0.93
    assert logged.data.metrics["training.lora_r8.accuracy.n"] == 200
    assert logged.data.metrics["chat.sequential.p95_ms.ci95_high"] == 198.0
    assert "chat.sequential.p99_ms" not in logged.data.metrics
    assert logged.data.params == {"profile": "quick", "data": "banking77", "model": "all-MiniLM-L6-v2"}
    assert logged.data.tags["mlflow.source.git.commit"] == "d" * 40
    names = {file.path for file in client.list_artifacts(logged.info.run_id)}
    assert {"RESULTS.html", "records.jsonl", "manifest.json", "raw"} <= names


def test_an_invalid_store_and_a_missing_extra_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(RunError, match="did not accept the run"):
        log_run(folder, "nonsense://x")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match=r"MLflow is not installed\. .*bankllm\[share\]"):
        log_run(folder, "file:nowhere")


def test_characters_that_mlflow_does_not_allow_are_replaced(folder: Path) -> None:
    record = replace(read_records(folder)[0], id="recall@10")
    assert set(metrics_of(record)) == {"recall_10", "recall_10.n", "recall_10.ci95_low", "recall_10.ci95_high"}
