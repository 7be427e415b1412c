"""A run's folder as a notebook sees it: write rows, measure, plot.

run = open_run("01_local_validation", profile, run_dir)
run.write_rows("chat", rows)
run.measure("chat.p95_ms", "percentile", "chat", title="Chat latency, p95", unit="ms", column="total_ms", q=0.95)
"""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bankllm.errors import RunError
from bankllm.evidence import records
from bankllm.evidence.csv_table import read_table
from bankllm.evidence.format import format_interval, format_value
from bankllm.evidence.records import (
    Raw,
    Record,
    read_records,
    sha256_file,
    write_records,
    write_rows,
)
from bankllm.evidence.report.summary import by_topic
from bankllm.evidence.validity_marks import EXCLUSIONS_SUFFIX
from bankllm.profiles import Profile, get_profile
from bankllm.settings import get_settings, project_root
from bankllm.util.atomic_files import atomic_writer

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


PERCENTILES = (0.5, 0.95, 0.99)
GZIP_FROM = 5000
"""From so many rows on, a raw file is compressed: thousands of them go into a repository."""


class Run:
    """One notebook's hand on the run's folder."""

    def __init__(self, folder: Path, notebook: str, profile: Profile) -> None:
        self.folder = folder
        self.notebook = notebook
        self.profile = profile
        self.conditions: dict[str, Any] = {"profile": profile.name, "host": host_line()}
        """Added to every record; notebooks put the data set and the model here."""
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def write_rows(self, name: str, rows: Iterable[Mapping[str, object]], *, compress: bool | None = None) -> None:
        """Write `raw/<notebook number>_<name>.csv`; as `.csv.gz` where told, else from `GZIP_FROM` rows on."""
        iterator = iter(rows)
        first = list(islice(iterator, GZIP_FROM))
        if compress is None:
            compress = len(first) == GZIP_FROM
        plain, packed = self._raw_paths(name)
        write_rows(packed if compress else plain, chain(first, iterator))
        (plain if compress else packed).unlink(missing_ok=True)

    def raw_path(self, name: str) -> Path:
        """Where the rows of that name lie, or would lie if there were few."""
        plain, packed = self._raw_paths(name)
        return packed if packed.exists() else plain

    def _raw_paths(self, name: str) -> tuple[Path, Path]:
        plain = self.folder / "raw" / f"{self.notebook[:2]}_{name}.csv"
        return plain, plain.with_name(f"{plain.name}.gz")

    def measure(
        self,
        id: str,
        statistic: str,
        raw: str,
        *,
        title: str,
        unit: str,
        where: dict[str, str] | None = None,
        conditions: Mapping[str, Any] | None = None,
        invalid_because: str | None = None,
        **parameters: Any,
    ) -> Record:
        """Apply `statistic` to the rows written as `raw` and keep the record.

        `invalid_because` marks a number that must not be used (an overloaded generator, say); what the
        statistic itself finds wanting is added to it. Raises `RunError` if the rows do not fit.
        """
        path = self.raw_path(raw)
        if not path.exists():
            raise RunError(f"{id}: no rows named {raw!r} were written. Call write_rows({raw!r}, …) first.")
        source = Raw(path=path.relative_to(self.folder).as_posix(), sha256=sha256_file(path), where=where or {})
        record = records.measure(
            self.folder,
            id,
            statistic,
            source,
            title=title,
            notebook=self.notebook,
            unit=unit,
            parameters=parameters,
            conditions={**self.conditions, **(conditions or {})},
            invalid_because=invalid_because,
        )
        self._mark(id, invalid_because)
        return self._keep(record)

    def measure_percentiles(
        self,
        prefix: str,
        raw: str,
        *,
        title: str,
        column: str,
        percentiles: Sequence[float] = PERCENTILES,
        **options: Any,
    ) -> list[Record]:
        """p50, p95 and p99 (or others) of a column in ms, as `<prefix>.p50_ms` …; `options` go to `measure`."""
        return [
            self.measure(
                f"{prefix}.p{100 * q:.0f}_ms",
                "percentile",
                raw,
                title=f"{title}, p{100 * q:.0f}",
                unit="ms",
                column=column,
                q=q,
                **options,
            )
            for q in percentiles
        ]

    def not_measured(self, id: str, *, title: str, unit: str, why: str) -> Record:
        """Keep the fact that a number could not be measured here, and why."""
        return self._keep(
            records.not_measured(
                id, title=title, notebook=self.notebook, unit=unit, conditions=self.conditions, why=why
            )
        )

    def records(self) -> list[Record]:
        """What this notebook has recorded so far."""
        return [record for record in read_records(self.folder) if record.notebook == self.notebook]

    def table(self) -> "pd.DataFrame":
        """This notebook's records as people read them, one a row."""
        return _frame(self.records())

    def others_by_topic(self) -> "pd.DataFrame":
        """What the run's other notebooks recorded, under (room, id), in the pages' order; empty where they did not."""
        import pandas as pd

        others = [record for record in read_records(self.folder) if record.notebook != self.notebook]
        topics = {title: _frame(mine) for title, mine in by_topic(others).items()}
        return pd.concat(topics, names=["room"]) if topics else _frame([])

    def scratch(self, name: str) -> Path:
        """A temporary folder for files that are not evidence (a store, a tool's logs); gone with this object."""
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="bankllm-")
        folder = Path(self._scratch.name) / name
        folder.mkdir(exist_ok=True)
        return folder

    def fresh(self, name: str) -> Path:
        """A path in the run's folder at which nothing stands: what an earlier execution left there is removed."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        return path

    def save_plot(self, name: str, figure: "Figure") -> None:
        """Save a figure as `plots/<notebook number>_<name>.png`."""
        with atomic_writer(self.folder / "plots" / f"{self.notebook[:2]}_{name}.png") as file:
            figure.savefig(file, format="png", dpi=150, bbox_inches="tight")

    def _mark(self, id: str, because: str | None) -> None:
        """Write down beside the rows that a number must not be used, so that the mark cannot be taken off unseen."""
        path = self.folder / "raw" / f"{self.notebook[:2]}{EXCLUSIONS_SUFFIX}"
        marks = [mark for mark in read_table(path, path.name) if mark["id"] != id] if path.exists() else []
        if because:
            marks.append({"id": id, "invalid_because": because})
        if marks:
            write_rows(path, marks)
        else:
            path.unlink(missing_ok=True)

    def _keep(self, record: Record) -> Record:
        others = [r for r in read_records(self.folder) if r.id != record.id]
        write_records(self.folder, [*others, record])
        return record


def open_run(notebook: str, profile: str = "", run_dir: str | Path = "") -> Run:
    """Open the run's folder for one notebook, dropping what an earlier execution of it recorded.

    An empty `profile` takes `BANKLLM_PROFILE`, else smoke; an empty `run_dir` takes
    `outputs/interactive-<profile>`, which notebooks opened by hand share.
    """
    settings = get_settings()
    chosen = get_profile(profile or settings.profile)
    folder = Path(run_dir) if run_dir else project_root() / settings.output / f"interactive-{chosen.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"The run's folder {folder} cannot be made ({os.strerror(error.errno or 0)}). "
            "Choose another with --output or BANKLLM_OUTPUT."
        ) from error
    kept = [record for record in read_records(folder) if record.notebook != notebook]
    write_records(folder, kept)
    (folder / "raw" / f"{notebook[:2]}{EXCLUSIONS_SUFFIX}").unlink(missing_ok=True)
    return Run(folder, notebook, chosen)


def _frame(records: Sequence[Record]) -> "pd.DataFrame":
    import pandas as pd

    rows = [
        {
            "id": record.id,
            "what": record.title,
            "value": format_value(record),
            "95 % interval": format_interval(record),
            "n": record.n,
            "status": record.status,
        }
        for record in records
    ]
    return pd.DataFrame(rows, columns=["id", "what", "value", "95 % interval", "n", "status"]).set_index("id")


def host_line() -> str:
    """The machine in a few words; the manifest holds the whole environment_info."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"
