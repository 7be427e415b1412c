"""The profiles that set the size of every notebook: `smoke` for tests, `quick` for a two-core laptop, `full` for a GPU.

The sizes are in `data/profiles.toml`.
"""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bankllm.errors import UsageError

ProfileName = Literal["smoke", "quick", "full"]


class TrainingRun(BaseModel):
    """One training configuration, which is one row in a table of notebook 03."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    """Name of a training method; see `bankllm.training.methods`."""
    rank: int = 0
    """LoRA rank; 0 for methods without a rank."""
    epochs: int = 1
    seeds: tuple[int, ...] = (0,)
    """The configuration is trained once per seed."""
    name: str | None = None
    """Display name; required if method and rank do not distinguish the configuration from the others."""
    options: dict[str, Any] = {}
    """Other fields of `TrainConfig` that differ from their defaults."""


class Profile(BaseModel):
    """All sizes of a run. Fields that name a notebook are used by that notebook only."""

    model_config = ConfigDict(frozen=True)

    name: ProfileName
    dataset: str
    """Data set: `teller77`, or `auto` (Banking77 if it is available, otherwise Teller77)."""
    intents: int | None = None
    """Train and test only on the first N intents; None: all intents."""
    training: tuple[TrainingRun, ...]
    language: tuple[TrainingRun, ...]
    """Language models that notebook 03 trains on TellerChat; the options are fields of `LanguageModelConfig`."""
    language_tests: tuple[int, int] | None = None
    """Number of TellerChat's test examples that they answer, tool calls and replies; None: all."""
    curve_intents: int | None = None
    """Notebook 03 compares the initialisations of the head on the first N intents; None: all intents."""
    held_out: int
    """Number of intents that notebook 03 excludes from one additional training; their texts then serve as out-of-scope
    questions that are close to the known intents. 0: no such training."""
    chat_requests: int
    """Number of sequential chat requests without a language model that notebook 01 measures."""
    stream_requests: int
    """Number of sequential streamed chats that notebook 01 measures, and of chats per tool in the comparison of
    streams of notebook 02."""
    conversations: int | None = None
    """Number of graded conversations that notebook 01 holds, in equal distances; None: all."""
    load_users: int
    """Number of concurrent users of the closed-loop drivers in notebook 02's first run."""
    load_requests: int
    """Number of requests per load driver in notebook 02's first run."""
    sweeps: tuple[tuple[Literal["chat", "health"], int], ...]
    """Rate sweeps of notebook 02: the endpoint, and the number of server processes (workers)."""
    sweep_step_s: float
    """Minimum duration in seconds of each rate of a sweep; extended until there are enough requests for a p95."""
    sweep_steps: int
    """Maximum number of rates per sweep."""
    sweep_s: float
    """Time limit of a sweep in seconds: no rate is started after it."""
    cache_requests: int
    """Number of requests per workload when notebook 02 looks for the effect of caches."""
    crosscheck_requests: int
    """Number of requests per driver when notebook 02 compares the drivers, one request at a time."""
    session_runs: int
    """How often notebook 02 repeats each driver in its load session; 0: no session."""
    session_requests: int
    """Number of requests per driver and repetition of the load session."""
    soak_s: float
    """Duration in seconds of notebook 02's soak test at a constant load; 0: no soak test."""
    model_requests: int
    """Number of requests per closed-loop driver in notebook 02's load on the server as it is installed."""
    curve_rates: tuple[float, ...]
    """Offered rates of notebook 02's curve of degradation, in requests per second."""
    curve_step_s: float
    """Duration in seconds of each of these rates; extended until there are `curve_requests`."""
    curve_requests: int
    """Minimum number of requests at each of these rates."""
    cost_chats: tuple[int, int]
    """Number of chats per chunk when notebook 02 measures what chats cost, without and with the language model."""
    model_soak_s: float
    """Duration in seconds of notebook 02's soak test of the language model's path; 0: no soak test."""
    memory_intents: int | None = None
    """Notebook 04 stores the texts of the first N intents; None: all intents."""
    search_queries: int
    """Number of searches per workload of notebook 04."""
    map_texts: int
    """Number of texts on notebook 04's map; t-SNE takes almost a minute for 10,000 texts."""
    cell_timeout_s: int
    """Papermill stops a notebook cell that runs longer than this number of seconds."""


PROFILES: dict[str, Profile] = {
    name: Profile.model_validate({"name": name, **sizes})
    for name, sizes in tomllib.loads((Path(__file__).parent / "data" / "profiles.toml").read_text("utf-8")).items()
}


def get_profile(name: str) -> Profile:
    """Returns the profile with that name. Raises `UsageError` if there is none."""
    if name not in PROFILES:
        raise UsageError(f"Unknown profile {name!r}. Expected one of: {', '.join(PROFILES)}.")
    return PROFILES[name]
