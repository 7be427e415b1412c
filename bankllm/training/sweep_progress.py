"""A progress bar for a sweep. It estimates the remaining time from the durations of the finished trainings."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from tqdm.auto import tqdm

from bankllm.training.config import TrainConfig

RELATIVE_COST = {"probe": 0.0, "lora": 1.0, "qlora": 1.1, "full": 2.8}
"""Cost of one epoch per method, relative to one epoch of LoRA r=8 on half of the layers. Measured with MiniLM on 2 CPU
cores: LoRA 40 s, QLoRA 43 s, full fine-tuning 112 s per epoch."""
FIXED_COST = 0.4
"""Cost of a training outside its epochs, in the same unit: loading, initialising the head, classifying the test
texts."""


def estimated_cost(config: TrainConfig) -> float:
    """Return the estimated cost of a configuration, in epochs of LoRA r=8."""
    return FIXED_COST + RELATIVE_COST[config.method] * config.epochs


class SweepBar:
    """A context manager: call `start(key)` before each configuration, and `finish(key, seconds)` after it."""

    def __init__(self, plan: Mapping[str, TrainConfig], progress: bool) -> None:
        self.plan = plan
        self._seconds: dict[str, float] = {}
        self._remaining = set(plan)
        self._bar = tqdm(
            total=round(sum(estimated_cost(config) for config in plan.values()), 1),
            desc="sweep",
            disable=not progress,
            bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed} gone{postfix}",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def start(self, key: str) -> None:
        """Show the configuration that starts now, and the expected end of the sweep."""
        position = len(self.plan) - len(self._remaining) + 1
        self._bar.set_description_str(f"sweep {position}/{len(self.plan)} {key}", refresh=False)
        seconds = self.seconds_left()
        if seconds is not None:
            # Also show the time of day, because this line does not change during a long training.
            end = datetime.now().astimezone() + timedelta(seconds=seconds)
            self._bar.set_postfix_str(f"about {_duration(seconds)} left, until {end:%H:%M}", refresh=False)
        self._bar.refresh()

    def finish(self, key: str, seconds: float | None) -> None:
        """Mark a configuration as finished. `seconds` is its duration; None if the duration is not representative."""
        self._remaining.discard(key)
        if seconds is not None:
            self._seconds[key] = seconds
        self._bar.update(estimated_cost(self.plan[key]))

    def seconds_left(self) -> float | None:
        """Estimate the remaining seconds. None if no duration is known yet.

        The estimate uses the durations of trainings with the same method, or of all trainings if there are none.
        """
        if not self._seconds:
            return None
        return sum(self._pace(self.plan[key].method) * estimated_cost(self.plan[key]) for key in self._remaining)

    def _pace(self, method: str) -> float:
        """Return the seconds per unit of cost."""
        similar = [key for key in self._seconds if self.plan[key].method == method] or list(self._seconds)
        return sum(self._seconds[key] for key in similar) / sum(estimated_cost(self.plan[key]) for key in similar)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
