"""Configuration and rules of Prometheus in `deploy/`, checked by promtool, and a test of the rules' unit tests."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bankllm.assistant.engine import MAX_WAITING
from bankllm.loadtest.experiments.rate_sweep import OBJECTIVE_MS
from tests.support.deployed import DEPLOY, services

RULES = DEPLOY / "rules"
CHECKS = RULES / "alerts_test.yml"

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool")


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)


def alerts() -> dict[str, dict[str, Any]]:
    [group] = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


@needs_promtool
def test_promtool_accepts_the_configuration_and_the_unit_tests_of_the_alerts_pass() -> None:
    result = promtool("check", "config", DEPLOY / "prometheus.yml")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 rule files found" in result.stdout
    result = promtool("test", "rules", CHECKS)
    assert result.returncode == 0, result.stdout + result.stderr


def test_alert_limits_match_the_code_and_compose() -> None:
    def limit(alert: str) -> str:
        return alerts()[alert]["expr"].rpartition("> ")[2]

    assert float(limit("BankllmSlow")) == OBJECTIVE_MS / 1000
    assert int(limit("BankllmQueueFilling")) == MAX_WAITING / 2
    assert f"Above {MAX_WAITING} per worker" in alerts()["BankllmQueueFilling"]["annotations"]["summary"]
    assert services()["api"]["deploy"]["resources"]["limits"]["memory"] == "2G"
    assert limit("BankllmMemory") == f"{0.8 * 2:g} * 1024 ^ 3"
    assert "At 2 GiB the container is killed" in alerts()["BankllmMemory"]["annotations"]["action"]
