"""Log a run to MLflow: values as metrics, profile, data and model as parameters, all files as artifacts.

Command: `bankllm report RUN_DIR --mlflow URI`, which verifies the run first. Needs the extra `bankllm[share]`.
"""

import re
from pathlib import Path

from bankllm.errors import RunError, UsageError
from bankllm.evidence.manifest import read_manifest
from bankllm.evidence.records import Record, read_records

EXPERIMENT = "bankllm"
BATCH = 500
"""Metrics per call. MLflow accepts at most 1,000 entities per call."""


def log_run(folder: Path, uri: str) -> str:
    """Log the run to the MLflow tracking store at `uri`, in the experiment `bankllm`; returns MLflow's id of the run.

    Raises `UsageError` if MLflow is not installed and `RunError` if the store reports an error.
    """
    try:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise UsageError("MLflow is not installed. Install it with: pip install 'bankllm[share]'") from error
    records, manifest = read_records(folder), read_manifest(folder)
    at = round(manifest.started.timestamp() * 1000)
    metrics = [Metric(name, value, at, 0) for record in records for name, value in metrics_of(record).items()]
    conditions = {"profile": manifest.profile, "data": ", ".join(manifest.data), "model": ", ".join(manifest.models)}
    params = [Param(name, value) for name, value in conditions.items()]
    tags = [RunTag("mlflow.source.git.commit", manifest.git_commit or "")]
    try:
        client = MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(EXPERIMENT)
        experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT)
        run_id = client.create_run(experiment, start_time=at, run_name=manifest.run_id).info.run_id
        client.log_batch(run_id, params=params, tags=tags)
        for begin in range(0, len(metrics), BATCH):
            client.log_batch(run_id, metrics=metrics[begin : begin + BATCH])
        client.log_artifacts(run_id, str(folder))
        client.set_terminated(run_id, end_time=round((manifest.finished or manifest.started).timestamp() * 1000))
    except MlflowException as error:
        # A URI may hold a password, and MLflow repeats the URI in its messages.
        reason = error.message.replace(uri, "URI")
        raise RunError(f"MLflow did not accept the run: {reason}. Check --mlflow and the MLflow server.") from None
    return str(run_id)


def metrics_of(record: Record) -> dict[str, float]:
    """Returns the metrics of a measured record. Characters that MLflow does not allow become `_`."""
    if record.status != "measured" or record.value is None:
        return {}
    name = re.sub(r"[^\w.\-/ ]", "_", record.id)
    metrics = {name: record.value, f"{name}.n": float(record.n)}
    if record.ci95:
        metrics |= {f"{name}.ci95_low": record.ci95[0], f"{name}.ci95_high": record.ci95[1]}
    return metrics
