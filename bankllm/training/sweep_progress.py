"""A progress bar over a sweep that says how long it will still take, from what its finished trainings took."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from tqdm.auto import tqdm

from bankllm.training.config import TrainConfig

RELATIVE_COST = {"probe": 0.0, "lora": 1.0, "qlora": 1.1, "full": 2.8}
"""Work of a pass over the training texts, in passes of LoRA r=8 on half of the layers. Measured with MiniLM on 2 CPU
cores: LoRA 40 s, QLoRA 43 s, full fine-tuning 112 s."""
AROUND = 0.4
"""Work around the passes: loading, starting the head, then the test texts."""


def work(config: TrainConfig) -> float:
    """What a configuration is reckoned to take, in passes of LoRA r=8."""
    return AROUND + RELATIVE_COST[config.method] * config.epochs


class SweepBar:
    """`with SweepBar(plan, progress) as bar:`, and around each configuration `bar.start(key)`, `bar.finish(key, …)`."""

    def __init__(self, plan: Mapping[str, TrainConfig], progress: bool) -> None:
        self.plan = plan
        self._took: dict[str, float] = {}
        self._left = set(plan)
        self._bar = tqdm(
            total=round(sum(work(config) for config in plan.values()), 1),
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
        """Say which configuration is next, and by when the sweep should be done."""
        place = len(self.plan) - len(self._left) + 1
        self._bar.set_description_str(f"sweep {place}/{len(self.plan)} {key}", refresh=False)
        seconds = self.seconds_left()
        if seconds is not None:
            # A time of day stays true while a long training leaves this line as it is.
            until = datetime.now().astimezone() + timedelta(seconds=seconds)
            self._bar.set_postfix_str(f"about {_words(seconds)} left, until {until:%H:%M}", refresh=False)
        self._bar.refresh()

    def finish(self, key: str, seconds: float | None) -> None:
        """A configuration is done. `seconds` is what it took, None where that says nothing of the others."""
        self._left.discard(key)
        if seconds is not None:
            self._took[key] = seconds
        self._bar.update(work(self.plan[key]))

    def seconds_left(self) -> float | None:
        """Of what is not finished: at the pace of its own method where one is known, else of all. None at first."""
        if not self._took:
            return None
        return sum(self._pace(self.plan[key].method) * work(self.plan[key]) for key in self._left)

    def _pace(self, method: str) -> float:
        """Seconds a unit of work."""
        alike = [key for key in self._took if self.plan[key].method == method] or list(self._took)
        return sum(self._took[key] for key in alike) / sum(work(self.plan[key]) for key in alike)


def _words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
