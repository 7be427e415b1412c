"""Log a run to MLflow: values as metrics, conditions as parameters, pages and raw rows as artifacts.

`bankllm report RUN_DIR --mlflow URI`; needs the extra `bankllm[mlflow]`. Only a run that holds is logged.
"""

import re
from pathlib import Path
from typing import Any

from bankllm.errors import RunError, UsageError
from bankllm.evidence.manifest import read_manifest
from bankllm.evidence.records import Record, read_records
from bankllm.evidence.report.render import about

EXPERIMENT = "bankllm"
BATCH = 500
"""Metrics a call; MLflow takes at most 1,000 entities."""
PARAMETER_CHARACTERS = 500


def log_run(folder: Path, uri: str) -> str:
    """Log the run to the tracking store at `uri`, under the experiment `bankllm`; returns MLflow's id of it.

    Each measured record becomes the metric of its id, its interval `<id>.ci95_low` and `<id>.ci95_high`, its samples
    `<id>.n`; characters that MLflow refuses become `_`. Raises `UsageError` without MLflow, `RunError` where the store
    refuses.
    """
    try:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise UsageError(
            "Expected MLflow, which is not installed. Install it: pip install 'bankllm[mlflow]'"
        ) from error
    records, manifest = read_records(folder), read_manifest(folder)
    run_about = about(folder, records)
    at = round(manifest.started.timestamp() * 1000)
    metrics = [Metric(name, value, at, 0) for record in records for name, value in metrics_of(record).items()]
    params = [Param(name, value) for name, value in parameters_of(run_about).items()]
    tags = {"mlflow.source.git.commit": manifest.git_commit or "", "bankllm.host": run_about["host"]}
    try:
        client = MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(EXPERIMENT)
        experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT)
        run_id = client.create_run(experiment, start_time=at, run_name=manifest.run_id).info.run_id
        client.log_batch(run_id, params=params, tags=[RunTag(name, value) for name, value in tags.items()])
        for begin in range(0, len(metrics), BATCH):
            client.log_batch(run_id, metrics=metrics[begin : begin + BATCH])
        client.log_artifacts(run_id, str(folder))
        client.set_terminated(run_id, end_time=round((manifest.finished or manifest.started).timestamp() * 1000))
    except MlflowException as error:
        raise RunError(f"MLflow at {uri} did not take the run: {error.message}") from error
    return str(run_id)


def metrics_of(record: Record) -> dict[str, float]:
    """Metric → value; nothing for a record that was not measured or is not valid."""
    if record.status != "measured" or record.value is None:
        return {}
    name = re.sub(r"[^\w.\-/ ]", "_", record.id)
    found = {name: record.value, f"{name}.n": float(record.n)}
    if record.ci95:
        found |= {f"{name}.ci95_low": record.ci95[0], f"{name}.ci95_high": record.ci95[1]}
    return found


def parameters_of(run: dict[str, Any]) -> dict[str, str]:
    """What a run was measured on, flat, as MLflow's parameters."""
    flat = {
        "profile": run["profile"],
        "git_commit": run["commit"],
        "git_dirty": run["dirty"],
        **{f"environment.{key}": value for key, value in run["environment"].items() if key != "libraries"},
        **{f"library.{key}": value for key, value in run["environment"].get("libraries", {}).items()},
        **{f"model.{name}": sha for name, sha in run["models"].items()},
    }
    for number, (name, facts) in enumerate(sorted(run["datasets"].items()), start=1):
        flat |= {f"data.{number}": name, f"data.{number}.test_sha256": facts["test_sha256"]}
    return {re.sub(r"[^\w.\-/ ]", "_", key): str(value)[:PARAMETER_CHARACTERS] for key, value in flat.items()}
