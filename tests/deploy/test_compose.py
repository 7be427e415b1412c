"""compose.yaml is valid, agrees with the files that it mounts, and starts no service that is open to the network."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bankllm.errors import UsageError
from bankllm.serving.auth import check_auth_settings
from bankllm.settings import Settings, get_settings
from tests.support.deployed import DEPLOY, api_environment, image, services
from tests.support.tokens import AUDIENCE, SECRET


def settings(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of the api in its container."""
    for name, value in (image().environment | api_environment(given)).items():
        if name != "PATH":
            monkeypatch.setenv(name, value)
    return get_settings()


def test_compose_is_valid() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    result = subprocess.run([*check, str(DEPLOY / "compose.yaml")], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("given", [{"BANKLLM_JWT_SECRET": SECRET}, {"BANKLLM_JWKS_URL": "https://id.example"}])
def test_the_api_accepts_other_machines_only_if_it_can_check_tokens(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = image().command[image().command.index("--host") + 1]
    check_auth_settings(settings(given | {"BANKLLM_JWT_AUDIENCE": AUDIENCE}, monkeypatch), host)
    with pytest.raises(UsageError, match="neither BANKLLM_JWT_SECRET nor BANKLLM_JWKS_URL is set"):
        check_auth_settings(settings({}, monkeypatch), host)


def test_the_api_uses_the_volume_and_cache_folder_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings({"BANKLLM_JWT_SECRET": SECRET, "PINECONE_INDEX_NAME": "mine"}, monkeypatch)
    mounted = [volume.split(":")[1] for volume in services()["api"]["volumes"]]
    assert mounted == [str(chosen.store.parent)] == [image().workdir]
    assert str(chosen.cache) in image().copied
    assert chosen.offline
    assert chosen.pinecone_api_key is None
    assert chosen.pinecone_index_name == "mine"


def test_mounts_exist_ports_are_on_loopback_and_image_versions_are_fixed() -> None:
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for name, service in document["services"].items():
        for source in (volume.split(":")[0] for volume in service.get("volumes", ())):
            assert source in document["volumes"] or (DEPLOY / source).exists(), source
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert not service["image"].endswith(":latest")
        assert ":" in service["image"], name
        if name != "pinecone":
            assert service["cap_drop"] == ["ALL"], name
            assert "healthcheck" in service or (name == "api" and image().healthcheck), name


def test_prometheus_scrapes_the_port_of_the_api() -> None:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    [target] = yaml.safe_load(document["configs"]["targets"]["content"])[0]["targets"]
    name, port = target.split(":")
    assert name in document["services"]
    assert port == image().command[image().command.index("--port") + 1]
    [mount] = document["services"]["prometheus"]["configs"]
    configuration = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    [files] = configuration["scrape_configs"][0]["file_sd_configs"]
    home = "/etc/prometheus"
    assert mount["target"] == f"{home}/{files['files'][0]}"
    mounted = {Path(v.split(":")[0]).name: v.split(":")[1] for v in document["services"]["prometheus"]["volumes"]}
    assert mounted["prometheus.yml"] == f"{home}/prometheus.yml"
    assert {str(Path(rules).parent) for rules in configuration["rule_files"]} == {"rules"}
    assert mounted["rules"] == f"{home}/rules"
