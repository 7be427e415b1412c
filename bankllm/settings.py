"""Settings from the environment.

`get_settings()` reads the environment when it is called, never at import. `bankllm doctor` prints the result.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from bankllm.errors import UsageError
from bankllm.profiles import ProfileName

PineconeNamespaces = Literal["customer", "shared"]


class Settings(BaseSettings):
    """What the environment decides. Names take the prefix `BANKLLM_`, or the alias shown."""

    model_config = SettingsConfigDict(env_prefix="BANKLLM_", env_ignore_empty=True, extra="ignore", frozen=True)

    banking77: Path | None = None
    """Folder with the published `train.csv` and `test.csv` (`BANKLLM_BANKING77`)."""
    profile: ProfileName = "smoke"
    output: Path = Path("outputs")
    """Where runs are written; a relative path counts from the project root (`BANKLLM_OUTPUT`)."""
    offline: bool = False
    """Do not try model or data hubs at all (`BANKLLM_OFFLINE=1`)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    inference: Literal["auto", "onnx", "onnx-int8", "torch"] = "auto"
    """What runs the served classifier (`BANKLLM_INFERENCE`); auto: torch on a GPU, ONNX Runtime in fp32 otherwise."""
    encoder_threads: int = Field(0, ge=0)
    """Cores that the served classifier uses at once (`BANKLLM_ENCODER_THREADS`); 0: all that this process may use."""
    cache: Path | None = None
    """Where graphs exported for serving are kept (`BANKLLM_CACHE`); unset, the user's own cache folder."""
    environment: Literal["development", "production"] = Field(
        "development", validation_alias=AliasChoices("ENVIRONMENT", "BANKLLM_ENVIRONMENT")
    )
    """In production the server refuses to start unless it can check tokens (`ENVIRONMENT`)."""
    jwt_secret: SecretStr | None = None
    """Signs the customers' tokens, HS256 (`BANKLLM_JWT_SECRET`)."""
    jwks_url: str | None = None
    """Where an identity provider publishes the keys that its tokens are signed with (`BANKLLM_JWKS_URL`)."""
    jwt_audience: str | None = None
    """What a token's `aud` must hold; unset, it is not looked at (`BANKLLM_JWT_AUDIENCE`)."""
    rate_limit: str | None = None
    """Requests of one customer that a worker takes (`BANKLLM_RATE_LIMIT`), such as 60/minute, or off; unset: 120 a
    minute where customers come with tokens, off in the demo."""
    store: Path = Path("bankllm-memory.sqlite")
    """SQLite file of the vector store that a server uses (`BANKLLM_STORE`)."""
    embedding_cache_bytes: int = Field(64 * 2**20, ge=0)
    """Of that file for cached embeddings, which its processes share; 0: none (`BANKLLM_EMBEDDING_CACHE_BYTES`)."""
    adapter: Path | None = None
    """Classifier folder that a server uses (`BANKLLM_ADAPTER`); unset, the packaged one."""
    log_file: Path | None = None
    """Where a server writes its log beside stderr (`BANKLLM_LOG_FILE`)."""
    pinecone_api_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("PINECONE_API_KEY", "BANKLLM_PINECONE_API_KEY")
    )
    pinecone_index_name: str = Field(
        "bankllm", validation_alias=AliasChoices("PINECONE_INDEX_NAME", "BANKLLM_PINECONE_INDEX_NAME")
    )
    pinecone_host: str | None = Field(
        None, validation_alias=AliasChoices("PINECONE_CONTROLLER_HOST", "BANKLLM_PINECONE_HOST")
    )
    pinecone_namespaces: PineconeNamespaces = "customer"
    """A Pinecone namespace for each customer, or one for all, where the plan limits their number
    (`BANKLLM_PINECONE_NAMESPACES`)."""
    responder: str = "template"
    """Who words the replies, see `assistant.wording.llm.make_responder` (`BANKLLM_RESPONDER`)."""
    responder_timeout_s: float = Field(20, gt=0)
    """How long one attempt at a generated reply may take, the last word included (`BANKLLM_RESPONDER_TIMEOUT_S`)."""
    openai_api_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("OPENAI_API_KEY", "BANKLLM_OPENAI_API_KEY")
    )
    """For a responder that speaks OpenAI's protocol; a server on one's own machine needs none (`OPENAI_API_KEY`)."""


def get_settings() -> Settings:
    """Read the environment now. Raises `UsageError` naming each variable that does not fit."""
    try:
        return Settings()  # type: ignore[call-arg]  # every field has a default; mypy misses validation aliases
    except ValidationError as error:
        # Never echo the input: a variable may hold a secret.
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise UsageError(
            f"An environment variable does not fit the settings: {faults}. "
            "Names take the prefix BANKLLM_ (see bankllm/settings.py); correct or unset it."
        ) from None


def project_root() -> Path:
    """The checkout that this package runs from; the caller's folder where it was installed as a wheel."""
    checkout = Path(__file__).resolve().parents[1]
    return checkout if (checkout / "pyproject.toml").exists() else Path.cwd()


def parse_assignments(pairs: Iterable[str]) -> dict[str, object]:
    """`name=value` pairs of a command line; a value that is JSON (a number, true, a list) is taken as such."""
    parsed: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"{pair!r}: expected name=value.")
        try:
            parsed[name] = json.loads(value)
        except json.JSONDecodeError:
            parsed[name] = value
    return parsed
