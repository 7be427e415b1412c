"""What `run_load` checks before and after a load."""

from pathlib import Path

import pytest

from bankllm.errors import NotMeasured, ServerError
from bankllm.loadtest.load import LOAD_DRIVERS, Load, LoadDriver, LoadResult
from bankllm.loadtest.runner import run_load
from bankllm.loadtest.server_process import ServerProcess
from bankllm.util.processes import free_port
from tests.support.loadtest_app import ARGUMENTS


def test_a_missing_server_is_an_error_before_any_tool_starts(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"No server answers at http://127\.0\.0\.1.*Start the server"):
        run_load(f"http://127.0.0.1:{free_port()}", output=tmp_path / "load", **ARGUMENTS)
    assert not (tmp_path / "load").exists()


def test_a_missing_ab_is_not_measured(server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotMeasured, match=r"ab not found; install it \(apt-get install apache2-utils\)"):
        run_load(server.url, "ab", output=tmp_path, **ARGUMENTS)


def test_a_generator_at_its_limit_makes_the_load_invalid(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send_nothing(load: Load, folder: Path) -> LoadResult:
        return LoadResult(load, [], generator_cpu_share=0.97, invalid_because="3 rows are missing")

    monkeypatch.setattr(LOAD_DRIVERS, "get", lambda name: LoadDriver(send_nothing, "closed", ("chat",)))
    result = run_load(server.url + "/", "busy", output=tmp_path, **ARGUMENTS)
    assert result.load.url == server.url
    assert result.invalid_because == "3 rows are missing; the load generator was busy for 97% of a core, over 90%"
