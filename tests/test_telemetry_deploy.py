"""The files under `deploy/` parse, agree with each other, and ask only for metrics that the server gives."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from bankllm.telemetry.metrics import ServerMetrics

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
GRAFANA = DEPLOY / "grafana"


def test_compose_mounts_what_is_there_and_the_ports_agree() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for service in services.values():
        for volume in service["volumes"]:
            assert (DEPLOY / volume.split(":")[0]).exists(), volume
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert f"--web.listen-address={source['url'].removeprefix('http://')}" in services["prometheus"]["command"]


def test_grafana_finds_its_dashboards_where_compose_puts_them() -> None:
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/bankllm.yaml").read_text())["providers"]
    volumes = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["grafana"]["volumes"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in volumes


def test_every_panel_asks_for_metrics_that_the_server_gives() -> None:
    metrics = ServerMetrics("minilm")
    metrics.observe_request("/api/v1/chat", "POST", 200, 0.03)
    given = set(re.findall(r"^(\w+)", metrics.render()[0].decode(), re.MULTILINE))
    panels = json.loads((GRAFANA / "dashboards/bankllm.json").read_text())["panels"]
    assert panels
    for panel in panels:
        for target in panel["targets"]:
            asked = set(re.findall(r"\w+_(?:total|bucket|sum|count|bytes)\b", target["expr"]))
            assert asked, panel["title"]
            assert asked <= given, panel["title"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool")
def test_promtool_accepts_the_configuration() -> None:
    command = ["promtool", "check", "config", str(DEPLOY / "prometheus.yml")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
