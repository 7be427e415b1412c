"""The three profiles that scale every notebook: `smoke`, `quick` and `full`.

A notebook takes every size from its profile: training configurations, requests, users, rows and time limits.
"""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bankllm.errors import UsageError

ProfileName = Literal["smoke", "quick", "full"]


class TrainingRun(BaseModel):
    """One line of notebook 03's table: a method, its rank and how many passes over the training set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["probe", "lora", "qlora", "full"]
    rank: int = 0
    """Of `lora` and `qlora`."""
    epochs: int = 1
    seeds: tuple[int, ...] = (0,)
    name: str | None = None
    """What people call it, where method and rank do not tell it from the others."""
    options: dict[str, Any] = {}
    """Fields of `TrainConfig` that differ from its defaults, where they are chosen for every other training."""

    def name_of(self) -> str:
        """What the configuration is called on every page, whatever the seed: `LoRA r=8`."""
        method = {"probe": "linear probe", "lora": "LoRA", "qlora": "QLoRA", "full": "full fine-tuning"}[self.method]
        return self.name or method + (f" r={self.rank}" if self.rank else "")

    def id_of(self) -> str:
        """The same as part of a record's id: `lora_r8`."""
        if self.name:
            return re.sub(r"\W+", "_", self.name.lower(), flags=re.ASCII).strip("_")
        return self.method + (f"_r{self.rank}" if self.rank else "")

    def label(self, seed: int) -> str:
        """The name, with the seed where there are several: `LoRA r=8 seed 2`."""
        return self.name_of() + (f" seed {seed}" if len(self.seeds) > 1 else "")

    def key(self, seed: int) -> str:
        """The same as the name of a file or folder: `lora_r8_s2`."""
        return self.id_of() + (f"_s{seed}" if len(self.seeds) > 1 else "")


class Profile(BaseModel):
    """How much work a run does. Notebooks take every size from here."""

    model_config = ConfigDict(frozen=True)

    name: ProfileName
    dataset: str
    """`teller77`, or `auto`: Banking77 where it can be had."""
    intents: int | None
    """Train and test on the first so many intents alone; None takes all."""
    training: tuple[TrainingRun, ...]
    curve_intents: int | None
    """Notebook 03 compares the starts of the head on the first so many intents; None takes all."""
    held_out: int
    """Intents that notebook 03 holds out of one more training, for near out-of-scope questions; 0 leaves it out."""
    audit: bool
    """Whether notebook 03 looks for wrong labels: the training texts are embedded once more."""
    chat_requests: int
    """Sequential chat requests that notebook 01 times."""
    load_users: int
    load_requests: int
    """Requests of each load driver in notebook 02's first run."""
    sweeps: tuple[tuple[Literal["chat", "health"], int], ...]
    """What notebook 02 offers more and more of, and how many workers the server has."""
    sweep_step_s: float
    """How long it offers each rate, or for as long as a p95 takes."""
    sweep_steps: int
    sweep_s: float
    """No step of a sweep begins later."""
    cache_requests: int
    """Requests of each workload of notebook 02's look for a cache."""
    crosscheck_requests: int
    """Requests of each driver where notebook 02 compares them, one at a time."""
    session_runs: int
    """How often notebook 02 repeats each driver; 0 leaves the session out."""
    session_requests: int
    """Of each driver in each of these runs."""
    soak_s: float
    """How long notebook 02 holds a steady load; 0 leaves it out."""
    memory_intents: int | None
    """Notebook 04 stores the texts of the first so many intents; None takes all."""
    search_queries: int
    """Searches of each of notebook 04's workloads."""
    map_texts: int
    """Texts on notebook 04's map; t-SNE takes most of a minute for ten thousand."""
    growth_rows: tuple[int, ...]
    """Sizes to which notebook 04 fills a file with random vectors."""
    cell_timeout_s: int
    """Papermill stops a cell that runs longer."""


def _adapters(epochs: int, seeds: tuple[int, ...], qlora: tuple[int, ...]) -> tuple[TrainingRun, ...]:
    return (
        *(TrainingRun(method="lora", rank=rank, epochs=epochs, seeds=seeds) for rank in (4, 8, 16, 32)),
        *(TrainingRun(method="qlora", rank=rank, epochs=epochs, seeds=seeds) for rank in qlora),
    )


_LINEAR_PROBE = TrainingRun(method="probe", options={"head": "linear"})
_WITHOUT_ADAPTER = (TrainingRun(method="probe", name="kernel head alone"), _LINEAR_PROBE)
"""There is no randomness in them that a second seed could show."""


PROFILES: dict[str, Profile] = {
    "smoke": Profile(
        name="smoke",
        dataset="teller77",
        intents=8,
        training=(
            TrainingRun(method="lora", rank=8, epochs=2),
            TrainingRun(method="qlora", rank=8, epochs=1),
            _LINEAR_PROBE,
        ),
        curve_intents=8,
        held_out=2,
        audit=True,
        chat_requests=40,
        load_users=5,
        load_requests=100,
        sweeps=(("chat", 1),),
        sweep_step_s=1,
        sweep_steps=3,
        sweep_s=8,
        cache_requests=40,
        crosscheck_requests=140,
        session_runs=0,
        session_requests=0,
        soak_s=0,
        memory_intents=20,
        search_queries=140,
        map_texts=1000,
        growth_rows=(1000, 3000),
        cell_timeout_s=180,
    ),
    "quick": Profile(
        name="quick",
        dataset="auto",
        intents=None,
        training=(*_adapters(epochs=1, seeds=(0,), qlora=(8,)), *_WITHOUT_ADAPTER),
        curve_intents=10,
        held_out=0,
        audit=False,
        chat_requests=200,
        load_users=100,
        load_requests=1000,
        sweeps=(("chat", 1), ("health", 1), ("chat", 2)),
        sweep_step_s=3,
        sweep_steps=7,
        sweep_s=20,
        cache_requests=150,
        crosscheck_requests=200,
        session_runs=0,
        session_requests=0,
        soak_s=20,
        memory_intents=None,
        search_queries=700,
        map_texts=2000,
        growth_rows=(1000, 5000, 15_000, 50_000, 100_000),
        cell_timeout_s=900,
    ),
    "full": Profile(
        name="full",
        dataset="auto",
        intents=None,
        training=(
            *_adapters(epochs=2, seeds=(0, 1, 2), qlora=(8, 16)),
            TrainingRun(method="full", epochs=2, seeds=(0, 1, 2)),
            *_WITHOUT_ADAPTER,
            TrainingRun(
                method="lora",
                rank=16,
                epochs=4,
                seeds=(0, 1, 2),
                name="LoRA r=16, query/key/value, four passes",
                options={"target_modules": ("query", "key", "value")},
            ),
        ),
        curve_intents=None,
        held_out=7,
        audit=True,
        chat_requests=2000,
        load_users=100,
        load_requests=1000,
        sweeps=(("chat", 1), ("health", 1), ("chat", 2), ("health", 2)),
        sweep_step_s=8,
        sweep_steps=10,
        sweep_s=100,
        cache_requests=700,
        crosscheck_requests=1000,
        session_runs=3,
        session_requests=5000,
        soak_s=600,
        memory_intents=None,
        search_queries=3000,
        map_texts=6000,
        growth_rows=(1000, 5000, 15_000, 50_000, 100_000, 300_000, 1_000_000),
        cell_timeout_s=6 * 3600,
    ),
}


def get_profile(name: str) -> Profile:
    """The profile of that name. Raises `UsageError` for an unknown one."""
    if name not in PROFILES:
        raise UsageError(f"Unknown profile {name!r}. Expected one of: {', '.join(PROFILES)}.")
    return PROFILES[name]
