"""The run folder API for notebooks: write raw rows, compute records from them, save plots.

run = open_run("01_local_validation", profile, run_dir)
run.write_rows("chat", rows)
run.measure("chat.p95_ms", "percentile", "chat", title="Chat latency, p95", unit="ms", column="total_ms", q=0.95)
"""

import os
import platform
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bankllm.errors import RunError
from bankllm.evidence import records
from bankllm.evidence.documents import as_json
from bankllm.evidence.format import format_interval, format_value
from bankllm.evidence.manifest import RECORDS
from bankllm.evidence.raw_files import read_table
from bankllm.evidence.record_rules import EXCLUSIONS_SUFFIX
from bankllm.evidence.records import Raw, Record, one_line, read_records, write_records, write_rows
from bankllm.evidence.verification.page_checks import COLUMNS
from bankllm.profiles import Profile, get_profile
from bankllm.settings import get_settings, project_root
from bankllm.util.atomic_files import append_line, atomic_writer, cut_torn_line, write_errors
from bankllm.util.file_hash import sha256_file

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import Image
    from matplotlib.figure import Figure

PERCENTILES = (0.5, 0.95, 0.99)


class Run:
    """One notebook's access to the run folder, made by `open_run`."""

    def __init__(self, folder: Path, notebook: str, profile: Profile) -> None:
        self.folder = folder
        self.notebook = notebook
        self.profile = profile
        host = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"
        self.conditions: dict[str, Any] = {"profile": profile.name, "host": host}
        """Conditions added to every record. Notebooks add the data set and the model."""
        self._ids = {record.id for record in read_records(folder)}
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def write_rows(self, name: str, rows: Iterable[Mapping[str, object]]) -> None:
        """Writes the file `raw_path(name)`. Raises `RunError` if there are no rows."""
        write_rows(self.raw_path(name), rows)
        self.raw_path(name).with_suffix("").unlink(missing_ok=True)  # as earlier versions wrote it

    def raw_path(self, name: str) -> Path:
        return self.folder / "raw" / f"{self.notebook[:2]}_{name}.csv.gz"

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
        """Computes `statistic` from the rows that were written as `raw`, and saves and returns the record.

        `where` selects rows by column values, `parameters` are the arguments of the statistic, and `invalid_because`
        says why the number must not be used. Raises `RunError` if the rows are missing or do not fit the statistic.
        """
        path = self.raw_path(raw)
        if not path.exists():
            raise RunError(f"{id}: no rows named {raw!r} were written. Call run.write_rows({raw!r}, …) first.")
        invalid_because = one_line(invalid_because or "") or None
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
        self._write_exclusion(id, invalid_because)
        return self._save(record)

    def measure_percentiles(
        self, prefix: str, raw: str, *, title: str, percentiles: Sequence[float] = PERCENTILES, **options: Any
    ) -> list[Record]:
        """Records percentiles of a column in ms with the ids `<prefix>.p50_ms` and so on; `options` go to `measure`."""
        options |= {"statistic": "percentile", "raw": raw, "unit": "ms"}
        return [
            self.measure(f"{prefix}.p{100 * q:.0f}_ms", title=f"{title}, p{100 * q:.0f}", q=q, **options)
            for q in percentiles
        ]

    def not_measured(self, id: str, *, title: str, unit: str, why: str) -> Record:
        about: dict[str, Any] = {"title": title, "notebook": self.notebook, "unit": unit}
        return self._save(records.not_measured(id, conditions=self.conditions, why=why, **about))

    def records(self) -> list[Record]:
        """Returns the records that this notebook has saved so far."""
        return [record for record in read_records(self.folder) if record.notebook == self.notebook]

    def table(self) -> "pd.DataFrame":
        """Returns this notebook's records as a table for display, one record per row."""
        import pandas as pd

        rows = [(r.id, r.title, format_value(r), format_interval(r), r.n, r.status) for r in self.records()]
        return pd.DataFrame(rows, columns=["id", *COLUMNS]).set_index("id")

    def scratch(self, name: str) -> Path:
        """Returns a temporary folder, which is deleted with this object."""
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="bankllm-")
        folder = Path(self._scratch.name) / name
        folder.mkdir(exist_ok=True)
        return folder

    def save_plot(self, name: str, figure: "Figure") -> "Image":
        """Saves and closes a figure, and returns the saved image, so that a notebook holds the bytes of the file."""
        import matplotlib.pyplot as plt
        from IPython.display import Image
        from PIL import Image as pillow

        drawn = BytesIO()
        figure.savefig(drawn, format="png", dpi=100, bbox_inches="tight")
        plt.close(figure)
        path = self.folder / "plots" / f"{self.notebook[:2]}_{name}.png"
        with atomic_writer(path) as file, pillow.open(drawn) as image:
            few_colours = image.convert("RGB").quantize(128, dither=pillow.Dither.NONE)
            few_colours.save(file, format="PNG", optimize=True)
        return Image(filename=path)

    def _write_exclusion(self, id: str, because: str | None) -> None:
        """Saves why a record is excluded in `raw/`, so that verification detects a reason removed from the record."""
        path = self.folder / "raw" / f"{self.notebook[:2]}{EXCLUSIONS_SUFFIX}"
        rows = [row for row in read_table(path, path.name) if row["id"] != id] if path.exists() else []
        if because:
            rows.append({"id": id, "invalid_because": because})
        if rows:
            write_rows(path, rows)
        else:
            path.unlink(missing_ok=True)

    def _save(self, record: Record) -> Record:
        """Appends the record. The file is rewritten only if it has a record with this id."""
        if record.id in self._ids:
            write_records(self.folder, [*(r for r in read_records(self.folder) if r.id != record.id), record])
        else:
            append_line(self.folder / RECORDS, as_json(record))
        self._ids.add(record.id)
        return record


def open_run(notebook: str, profile: str = "", run_dir: str | Path = "") -> Run:
    """Opens the run folder for one notebook and deletes the records of its earlier execution.

    An empty `profile` means the setting, an empty `run_dir` the folder `outputs/interactive-<profile>`. Raises
    `UsageError` for an unknown profile and `RunError` if the folder cannot be created.
    """
    settings = get_settings()
    chosen = get_profile(profile or settings.profile)
    folder = Path(run_dir) if run_dir else project_root() / settings.output / f"interactive-{chosen.name}"
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    cut_torn_line(folder / RECORDS)
    write_records(folder, [record for record in read_records(folder) if record.notebook != notebook])
    (folder / "raw" / f"{notebook[:2]}{EXCLUSIONS_SUFFIX}").unlink(missing_ok=True)
    return Run(folder, notebook, chosen)
