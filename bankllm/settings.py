"""Settings that are read from environment variables: by `get_settings()`, never at import."""

import json
import os
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bankllm.errors import UsageError
from bankllm.profiles import ProfileName

Distress = Literal["self_harm", "abuse", "scam_under_way", "bereavement", "cannot_pay"]
"""Kinds of messages of customers in distress, which get a fixed reply (`bankllm.assistant.care`)."""


class Settings(BaseSettings):
    """All settings. The environment variable is `BANKLLM_` plus the field name in capitals, or the alias shown."""

    model_config = SettingsConfigDict(env_prefix="BANKLLM_", env_ignore_empty=True, extra="ignore", frozen=True)

    banking77: Path | None = None
    """Folder with the published `train.csv` and `test.csv` of Banking77 (`BANKLLM_BANKING77`)."""
    profile: ProfileName = "smoke"
    """Size of a run: `smoke`, `quick` or `full` (`BANKLLM_PROFILE`); see `bankllm.profiles`."""
    output: Path = Path("outputs")
    """Folder that contains the runs; a relative path starts at the project root (`BANKLLM_OUTPUT`)."""
    notebooks: Path | None = None
    """Folder with the notebooks `NN_name.ipynb` of a run (`BANKLLM_NOTEBOOKS`); default: those of bankllm."""
    offline: bool = False
    """Never connect to a model or data hub (`BANKLLM_OFFLINE=1`)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device for training and inference (`BANKLLM_DEVICE`); `auto` uses a GPU if there is one."""
    inference: Literal["auto", "onnx", "torch"] = "auto"
    """Runtime of classifier and embedder (`BANKLLM_INFERENCE`); `auto`: torch on a GPU, otherwise ONNX Runtime."""
    encoder_threads: int = Field(0, ge=0)
    """Number of CPU cores that classifier and embedder use in parallel (`BANKLLM_ENCODER_THREADS`); 0: all cores that
    this process may use."""
    cache: Path | None = None
    """Folder for the ONNX graphs of classifiers and embedders (`BANKLLM_CACHE`); default: the user's cache folder."""
    environment: str = Field("development", validation_alias=AliasChoices("BANKLLM_ENVIRONMENT", "ENVIRONMENT"))
    """With any other value than `development` the server starts only if it can check customers' tokens (`ENVIRONMENT`,
    or `BANKLLM_ENVIRONMENT` where another program uses that name)."""
    today: date | None = None
    """The day from which relative dates of customers count, such as `2026-11-29` (`BANKLLM_TODAY`); default: the
    system's. Only for development: expiry, limits and the audit log always use the system's clock."""
    jwt_secret: SecretStr | None = None
    """Key for the HS256 signature of the customers' tokens (`BANKLLM_JWT_SECRET`)."""
    jwks_url: str | None = None
    """URL of the identity provider's public keys (JSON Web Key Set), which check its tokens (`BANKLLM_JWKS_URL`)."""
    jwt_audience: str | None = None
    """Value that a token's `aud` claim must contain (`BANKLLM_JWT_AUDIENCE`); required where tokens are checked."""
    audit_key: SecretStr | None = None
    """Key of the audit log's chain, at least 32 bytes (`BANKLLM_AUDIT_KEY`); required outside development. Default in
    development: the file LEDGER.audit-key beside the ledger, which is created once."""
    mcp: bool = False
    """Offer the assistant's tools to clients of the Model Context Protocol at `/mcp` (`BANKLLM_MCP=1`)."""
    rate_limit: str | None = None
    """Rate limit per customer and worker, such as `60/minute`, or `off` (`BANKLLM_RATE_LIMIT`). Default: 120 per minute
    if customers authenticate with tokens, `off` in the demo without tokens."""
    store: Path = Path("bankllm-memory.sqlite")
    """SQLite file of the server's vector store (`BANKLLM_STORE`)."""
    memory_ttl_s: float | None = Field(None, gt=0, le=100 * 365.25 * 86_400)
    """Seconds for which customers' messages are kept (`BANKLLM_MEMORY_TTL_S`), at most 100 years; default: until they
    are deleted. `bankllm memory retention` applies it to messages stored before."""
    embedding_cache_bytes: int = Field(64 * 2**20, ge=0)
    """Maximum size in bytes of the embeddings that a process caches (`BANKLLM_EMBEDDING_CACHE_BYTES`); 0: no cache."""
    approximate_above: int | None = Field(None, ge=1)
    """Customers and collections with more texts get an approximate index (`BANKLLM_APPROXIMATE_ABOVE`); default: all
    searches are exact. Needs the extra `approximate`."""
    ledger: str = "demo:"
    """The bank whose accounts the server reads (`BANKLLM_LEDGER`): `sqlite:PATH`, `demo:PATH`, or a registered scheme.
    `demo:` without a path makes a ledger of invented customers beside the store, one file per day."""
    adapter: Path | None = None
    """Folder of the server's classifier (`BANKLLM_ADAPTER`); default: the packaged classifier."""
    log_file: Path | None = None
    """File to which the server writes its log in addition to stderr (`BANKLLM_LOG_FILE`)."""
    pinecone_api_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("PINECONE_API_KEY", "BANKLLM_PINECONE_API_KEY")
    )
    """If set, the vector store is replicated to Pinecone (`PINECONE_API_KEY`)."""
    pinecone_index_name: str = Field(
        "bankllm", validation_alias=AliasChoices("PINECONE_INDEX_NAME", "BANKLLM_PINECONE_INDEX_NAME")
    )
    """Name of the Pinecone index (`PINECONE_INDEX_NAME`)."""
    pinecone_host: str | None = Field(
        None, validation_alias=AliasChoices("PINECONE_CONTROLLER_HOST", "BANKLLM_PINECONE_HOST")
    )
    """URL of Pinecone's control plane (`PINECONE_CONTROLLER_HOST`), e.g. of a local server; default: hosted service."""
    understanding: Literal["auto", "rules", "model"] = "auto"
    """What proposes tool calls for a message (`BANKLLM_UNDERSTANDING`): `rules`, or the `model` and rules if it is
    late; `auto`: the model if its adapter and OpenVINO GenAI are installed."""
    reply_timeout_s: float | None = Field(1.5, gt=0)
    """Seconds for a whole reply (`BANKLLM_REPLY_TIMEOUT_S`): what the assistant's language model has not done by then,
    rules and templates do."""
    language_socket: str | None = None
    """Socket of the language model's process (`BANKLLM_LANGUAGE_SOCKET`), which `bankllm serve --workers` sets for its
    workers; default: a process is started."""
    language_adapter: Path | None = None
    """Folder of the language model's LoRA adapter (`BANKLLM_LANGUAGE_ADAPTER`); default: the packaged adapter."""
    responder: str = "template"
    """What generates the replies (`BANKLLM_RESPONDER`): `template`, `model`, `openai:BASE-URL#MODEL`,
    or a registered scheme."""
    responder_timeout_s: float = Field(20, gt=0)
    """Timeout in seconds of one attempt to generate a complete reply (`BANKLLM_RESPONDER_TIMEOUT_S`)."""
    openai_api_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("OPENAI_API_KEY", "BANKLLM_OPENAI_API_KEY")
    )
    """Key for a responder with an OpenAI-compatible API (`OPENAI_API_KEY`); a local server usually needs none."""

    helplines: dict[Distress, str] = Field(default_factory=dict)
    """Whom the fixed replies to customers in distress name, as JSON: `{"self_harm": "…, on 116 123"}`
    (`BANKLLM_HELPLINES`). Default: they name nobody outside the bank."""

    @field_validator("*")
    @classmethod
    def _in_home(cls, value: object) -> object:
        """Replace a leading `~`, which only a shell would do, and not a container or an env file."""
        try:
            return value.expanduser() if isinstance(value, Path) else value
        except RuntimeError as error:  # no such user, or a user without a home folder
            raise ValueError("the home folder that ~ stands for cannot be found") from error

    @field_validator("ledger", "responder")
    @classmethod
    def _after_scheme_in_home(cls, value: str) -> str:
        scheme, colon, rest = value.partition(":")
        return f"{scheme}{colon}{os.path.expanduser(rest)}"  # noqa: PTH111  Path would also change a URL

    @field_validator("environment")
    @classmethod
    def _plain(cls, value: str) -> str:
        return value.strip().lower()

    @field_validator("today")
    @classmethod
    def _only_in_development(cls, value: date | None, fields: ValidationInfo) -> date | None:
        if value and fields.data.get("environment") != "development":
            raise ValueError("a fixed day is only allowed where ENVIRONMENT is development")
        return value

    @property
    def present_day(self) -> date:
        """`today`, else the system's day."""
        return self.today or date.today()


def get_settings() -> Settings:
    """Read the settings from the environment. Raises `UsageError` that names invalid variables without their values."""
    try:
        return Settings()  # type: ignore[call-arg]  # every field has a default; mypy misses validation aliases
    except ValidationError as error:
        # Never print the input: a variable may hold a secret.
        faults = "; ".join(f"{_variable(str(e['loc'][0]))}: {e['msg']}" for e in error.errors(include_input=False))
        raise UsageError(
            f"Invalid environment variable: {faults}. Correct or unset it; bankllm/settings.py describes each variable."
        ) from None


def _variable(name: str) -> str:
    """The environment variable of a field. Pydantic names the field, or the alias for a field that has one."""
    return name if name.isupper() else f"BANKLLM_{name.upper()}"


def source_root() -> Path | None:
    """The folder of bankllm's source tree; None if bankllm was installed from a wheel."""
    folder = Path(__file__).resolve().parents[1]
    project = folder / "pyproject.toml"
    # Another project's file is in this place after `pip install --target` into the folder of that project.
    return folder if project.is_file() and 'name = "bankllm"' in project.read_text(encoding="utf-8") else None


def project_root() -> Path:
    """The folder of bankllm's source tree; the current working folder if bankllm was installed from a wheel."""
    return source_root() or Path.cwd()


def parse_assignments(pairs: Iterable[str]) -> dict[str, object]:
    """Parse `name=value` pairs of the command line; a value is JSON or else a string.

    Raises `UsageError` for a pair without `=` or with an invalid name.
    """
    parsed: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"Expected name=value, such as epochs=3, got {pair!r}.")
        try:
            parsed[name] = json.loads(value)
        except json.JSONDecodeError:
            parsed[name] = value
    return parsed
