"""The log: each line is one JSON object, also with several processes, and contains no customer data."""

import json
import logging
import logging.config
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.testclient import TestClient
from pydantic import BaseModel, ValidationError

from bankllm.errors import ServerError
from bankllm.serving import logs
from bankllm.serving.errors import Observe, install_handlers
from bankllm.serving.logs import JsonLines, describe, log_config
from bankllm.telemetry.metrics import ServerMetrics

SECRET = "my-secret-words"


class Amount(BaseModel):
    pounds: int


@pytest.fixture
def captured(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """`caplog` with the records of the server as JSON lines."""
    caplog.set_level(logging.INFO, "bankllm")
    monkeypatch.setattr(caplog.handler, "formatter", JsonLines())
    return caplog


def lines_in(captured: pytest.LogCaptureFixture) -> list[dict]:
    return [json.loads(line) for line in captured.text.splitlines()]


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI()
    app.add_middleware(Observe, metrics=ServerMetrics("test"))
    install_handlers(app)

    @app.post("/pay/{who}")
    def pay(who: str, amount: Amount) -> Amount:
        return amount

    @app.post("/broken")
    async def broken(request: Request) -> None:
        try:
            Amount.model_validate(await request.json())
        except ValidationError as error:
            raise RuntimeError("could not pay") from error

    @app.get("/health")
    def health() -> None:
        pass

    with TestClient(app) as made:
        yield made


def test_request_is_logged_in_one_line_without_customer_data(client, captured) -> None:
    url = f"/pay/{SECRET}?token={SECRET}"
    headers = {"authorization": f"Bearer {SECRET}", "x-request-id": "mine-1"}
    client.post(url, json={"pounds": 5}, headers=headers)
    client.post(url, json={"pounds": SECRET}, headers=headers)
    client.request(SECRET.upper(), f"/{SECRET}")
    first, unfit, unmatched = lines_in(captured)
    assert abs(datetime.fromisoformat(first.pop("ts")) - datetime.now(UTC)) < timedelta(minutes=1)
    assert 0 < first.pop("duration_ms") < 10_000
    expected = {"request_id": "mine-1", "route": "/pay/{who}", "method": "POST", "status": 200}
    assert first == expected | {"level": "INFO", "logger": "bankllm.access", "message": "request", "pid": os.getpid()}
    assert unfit["status"] == 422
    assert (unmatched["route"], unmatched["method"], unmatched["status"]) == ("unmatched", "_OTHER", 404)
    assert SECRET not in captured.text.lower()


def test_health_checks_are_logged_at_debug_level_only(client, captured) -> None:
    client.get("/health")
    assert captured.text == ""
    captured.set_level(logging.DEBUG, "bankllm")
    client.get("/health")
    [line] = lines_in(captured)
    assert (line["level"], line["route"]) == ("DEBUG", "/health")


def test_traceback_contains_no_values_of_the_request(client, captured) -> None:
    response = client.post("/broken", json={"pounds": SECRET})
    failed, request = lines_in(captured)
    assert failed["request_id"] == request["request_id"] == response.headers["x-request-id"]
    assert request["status"] == 500
    assert "in broken" in failed["exception"]
    assert "ValidationError: invalid values (int_parsing)" in failed["exception"]
    assert failed["exception"].endswith("RuntimeError: could not pay")
    assert SECRET not in captured.text


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001
        return caught


def test_quoted_values_are_removed_from_exceptions() -> None:
    with pytest.raises(ValidationError) as refused:
        Amount.model_validate({"pounds": SECRET})
    for error in (
        refused.value,
        RequestValidationError([{"type": "int_parsing", "loc": ("body", SECRET), "input": SECRET}], body=SECRET),
        ValueError(f"cannot pay: {refused.value}"),
        ValueError(f"GET https://example.org/v1?key={SECRET} gave 500"),
        ValueError(f"refused: Authorization: Bearer {SECRET}"),
        ExceptionGroup("several", [refused.value]),
    ):
        described = describe(raised(error))
        assert SECRET not in described, described
        assert type(error).__name__ in described
    assert "[card …1111]" in describe(ValueError("no card 4111 1111 1111 1111"))
    refused.value.__cause__, first = ValueError("first"), refused.value
    first.__cause__.__cause__ = first  # a circular chain ends
    assert describe(first).count("ValueError: first") == 1
    assert "int_parsing" in describe(ExceptionGroup("several", [refused.value]))


def record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("bankllm", logging.INFO, "app.py", 1, message, arguments, info)


FORGED = 'x\n{"level": "INFO", "message": "forged"}\r\x1b[2J\u2028\x85\ud800"'


def test_log_lines_cannot_be_forged() -> None:
    line = JsonLines().format(record("said %s", FORGED, error=raised(ValueError(FORGED))))
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == f"said {FORGED}"


@pytest.mark.parametrize("letter", ["a", "£", "\x00", "\U0001f600"])
def test_long_line_is_cut_to_fit_a_pipe(letter: str) -> None:
    line = JsonLines().format(record(letter * 9000, error=raised(ValueError(letter * 9000 + "the end"))))
    assert len(line) < logs.MAX_LINE_BYTES
    fields = json.loads(line)
    assert fields["message"].startswith(letter)
    assert fields["exception"].endswith("the end")


def test_unwritable_log_file_is_reported_before_the_server_starts(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ServerError, match="Choose another file with --log-file, or omit it"):
        log_config(tmp_path / "taken" / "app.log")
    assert "file" in log_config(tmp_path / "logs" / "app.log")["handlers"]
    assert "file" not in log_config()["handlers"]


WRITER = """
import logging, logging.config, sys
from pathlib import Path
from bankllm.serving.logs import log_config
logging.config.dictConfig(log_config(Path(sys.argv[1])))
for number in range(int(sys.argv[3])):
    logging.getLogger("bankllm").info("%s %d " + "x" * (number * 37 % 3000), sys.argv[2], number)
"""


@pytest.mark.slow
def test_processes_share_a_file_and_a_pipe_without_broken_lines(tmp_path: Path) -> None:
    names, count, path = ("one", "two", "three"), 400, tmp_path / "logs" / "app.log"
    read_end, write_end = os.pipe()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, str(count)], stderr=write_end)
        for name in names
    ]
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        pipe_lines = pipe.read().splitlines()
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    expected = sorted((name, number) for name in names for number in range(count))
    for lines in (pipe_lines, path.read_text().splitlines()):
        said = [json.loads(line)["message"].split() for line in lines]
        assert sorted((name, int(number)) for name, number, *_ in said) == expected


def test_a_rotated_log_file_is_opened_again(tmp_path: Path) -> None:
    path, logger = tmp_path / "app.log", logging.getLogger("rotated")
    config = log_config(path)
    logging.config.dictConfig(config | {"root": {}, "loggers": {"rotated": {"handlers": ["file"], "level": "INFO"}}})
    logger.info("first")
    path.rename(tmp_path / "app.log.1")
    logger.info("second")
    logger.handlers.pop().close()
    assert [json.loads(file.read_text())["message"] for file in sorted(tmp_path.iterdir())] == ["second", "first"]
