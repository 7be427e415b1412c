"""`bankllm chat` in the terminal, with the packaged assistant and a demo ledger."""

import io
import sys
from pathlib import Path

import pytest

from tests.support import Cli


@pytest.fixture
def places(tmp_path: Path, ledger: Path) -> dict[str, str]:
    return {"BANKLLM_STORE": str(tmp_path / "memory.sqlite"), "BANKLLM_LEDGER": f"sqlite:{ledger}"}


def test_one_message_gets_its_reply_and_a_table(bankllm: Cli, places: dict[str, str]) -> None:
    done = bankllm("chat", "my", "last", "2", "payments", BANKLLM_TODAY="2026-11-29", **places)
    assert done.returncode == 0, done.stderr
    assert "Your 2 latest transactions" in done.stdout
    assert done.stdout.count("2026-11-") == 2, "two rows of the table"


def test_an_action_is_confirmed_in_the_conversation(
    bankllm: Cli, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("transfer £5 to Mum\nyes\n\n"))
    done = bankllm("chat", "--customer", "CUST001", BANKLLM_TODAY="2026-11-29", **places)
    assert done.returncode == 0, done.stderr
    assert "yes / no" in done.stdout
    assert "Done: Transfer £5.00" in done.stdout


def test_another_bank_s_customer_is_refused(bankllm: Cli, places: dict[str, str]) -> None:
    done = bankllm("chat", "--customer", "CUST999", "hello", **places)
    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no customer with this id" in done.stderr
