"""Settings are read from the environment, and secrets are never shown. Profiles have the documented sizes."""

from datetime import date
from pathlib import Path

import pytest

from bankllm.errors import UsageError
from bankllm.profiles import PROFILES, get_profile
from bankllm.settings import get_settings, parse_assignments, project_root
from tests.support import ROOT


def test_unprefixed_variable_names_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("PINECONE_API_KEY", "pc-hush")
    monkeypatch.setenv("PINECONE_INDEX_NAME", "mine")
    monkeypatch.setenv("BANKLLM_JWT_SECRET", "api-hush")
    settings = get_settings()
    assert (settings.environment, settings.pinecone_index_name) == ("production", "mine")
    assert settings.pinecone_api_key is not None
    assert settings.pinecone_api_key.get_secret_value() == "pc-hush"
    assert "hush" not in repr(settings)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINECONE_API_KEY", "")
    monkeypatch.setenv("BANKLLM_PROFILE", "")
    assert get_settings().pinecone_api_key is None
    assert get_settings().profile == "smoke"


def test_an_invalid_value_is_reported_without_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANKLLM_PROFILE", "hunter2")
    with pytest.raises(UsageError, match=r"BANKLLM_PROFILE: Input should be 'smoke', 'quick' or 'full'") as caught:
        get_settings()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "default", "smallest", "too_small"),
    [
        ("encoder_threads", 0, "0", "-1"),
        ("embedding_cache_bytes", 64 * 2**20, "0", "-1"),
        ("responder_timeout_s", 20, "0.1", "0"),
    ],
)
def test_a_number_has_a_default_and_a_lower_limit(
    monkeypatch: pytest.MonkeyPatch, name: str, default: int, smallest: str, too_small: str
) -> None:
    assert getattr(get_settings(), name) == default
    monkeypatch.setenv(f"BANKLLM_{name.upper()}", smallest)
    assert getattr(get_settings(), name) == float(smallest)
    monkeypatch.setenv(f"BANKLLM_{name.upper()}", too_small)
    with pytest.raises(UsageError, match=f"BANKLLM_{name.upper()}: Input should be greater than"):
        get_settings()


def test_a_fixed_day_is_for_development_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_settings().present_day == date.today()
    monkeypatch.setenv("BANKLLM_TODAY", "2026-11-29")
    assert get_settings().present_day == date(2026, 11, 29)
    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(UsageError, match=r"BANKLLM_TODAY.*only allowed where ENVIRONMENT is development"):
        get_settings()
    monkeypatch.setenv("ENVIRONMENT", "development")
    monkeypatch.setenv("BANKLLM_TODAY", "31 February")
    with pytest.raises(UsageError, match="BANKLLM_TODAY"):
        get_settings()


def test_the_project_root_is_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert project_root() == ROOT


def test_assignments_are_json_or_text() -> None:
    assert parse_assignments(["epochs=3", "name=a=b", "seeds=[0, 1]"]) == {"epochs": 3, "name": "a=b", "seeds": [0, 1]}
    for pair in ("epochs", "=3", "two words=1"):
        with pytest.raises(UsageError, match="Expected name=value, such as epochs=3"):
            parse_assignments([pair])


def test_profiles_have_the_documented_sizes() -> None:
    smoke, quick, full = (get_profile(name) for name in ("smoke", "quick", "full"))
    assert smoke.dataset == "teller77"
    assert quick.intents is full.intents is None
    assert (quick.load_users, quick.load_requests, quick.chat_requests) == (100, 1000, 200)
    encoders = [entry for entry in full.training if "base_model" not in entry.options]
    assert all(len(entry.seeds) >= 3 for entry in encoders if entry.method != "probe")
    assert [entry.method for entry in full.training if entry not in encoders] == ["lora", "qlora"]
    for profile, qlora in ((quick, (8,)), (full, (8, 16))):
        assert [(entry.method, entry.rank) for entry in profile.training if entry.name is None] == [
            *(("lora", rank) for rank in (4, 8, 16, 32)),
            *(("qlora", rank) for rank in qlora),
            *([("full", 0)] if profile is full else []),
            ("probe", 0),
        ]
    assert all(entry.seeds == (0,) for entry in quick.training)
    for profile in PROFILES.values():
        assert {"lora", "qlora"} <= {entry.method for entry in profile.training}


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("BANKLLM_OUTPUT", "~/runs", "HOME/runs"),
        ("BANKLLM_OUTPUT", "~", "HOME"),
        ("BANKLLM_STORE", "~/a/../m.sqlite", "HOME/a/../m.sqlite"),
        ("BANKLLM_CACHE", "~root/cache", "/root/cache"),
        ("BANKLLM_BANKING77", "/x/~/data", "/x/~/data"),
        ("BANKLLM_NOTEBOOKS", "notes~", "notes~"),
        ("BANKLLM_LEDGER", "sqlite:~/bank.sqlite", "sqlite:HOME/bank.sqlite"),
        ("BANKLLM_LEDGER", "demo:", "demo:"),
        ("BANKLLM_RESPONDER", "mine:~/model", "mine:HOME/model"),
        ("BANKLLM_RESPONDER", "openai:http://127.0.0.1:1/~me//v1#m", "openai:http://127.0.0.1:1/~me//v1#m"),
    ],
)
def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str) -> None:
    monkeypatch.setenv("HOME", "/home/mine")
    monkeypatch.setenv(variable, value)
    found = getattr(get_settings(), variable.removeprefix("BANKLLM_").lower())
    assert str(found) == expected.replace("HOME", "/home/mine")


def test_a_tilde_without_a_home_folder_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANKLLM_OUTPUT", "~no_such_user/runs")
    with pytest.raises(UsageError, match="BANKLLM_OUTPUT: Value error, the home folder that ~ stands for cannot be"):
        get_settings()


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [
        (None, "staging", "staging"),
        (None, " Production ", "production"),
        (None, "", "development"),
        ("development", "prod", "development"),
        ("", "test", "test"),
        ("Production", None, "production"),
    ],
)
def test_any_name_of_an_environment_is_accepted(
    monkeypatch: pytest.MonkeyPatch, own: str | None, others: str | None, expected: str
) -> None:
    for name, value in (("BANKLLM_ENVIRONMENT", own), ("ENVIRONMENT", others)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert get_settings().environment == expected
