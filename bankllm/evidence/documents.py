"""The two documents of a run, and strict reading of them: `Record` (a line of `records.jsonl`) and `Manifest`.

A change that old readers cannot read raises `schema_version`.
"""

import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import datetime
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

T = TypeVar("T")
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Raw:
    """The source rows of a record: a CSV file of the run, plain or gzip, and a selection of its rows."""

    path: str
    """Relative to the run folder, with forward slashes."""
    sha256: str
    where: dict[str, str] = field(default_factory=dict)
    """Column → value, compared as text: only rows with all these values are used."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One number of a run, measured or not measured.

    `value`, `n`, `ci95` and `why_no_ci95` are what `statistic`, with `parameters`, returns for the rows of `raw`. If
    nothing was measured, `raw`, `statistic`, `value` and `ci95` are None, and `invalid_because` says why.
    """

    schema_version: Literal[1] = 1
    id: str
    """Unique in the run and dotted, e.g. `chat.c100.p95_ms`."""
    title: str
    notebook: str
    """Name of the notebook that made the record. Its raw files begin with the same two digits."""
    value: float | None
    """None if nothing was measured, or if there are too few samples."""
    unit: str
    """Unit of `value` and `ci95`, e.g. `ms`, `s`, `bytes`, `requests/s`, or `share` (0 … 1)."""
    n: int
    ci95: tuple[float, float] | None
    why_no_ci95: str | None
    statistic: str | None
    parameters: dict[str, Any]
    raw: Raw | None
    conditions: dict[str, Any]
    """What the number depends on: profile, host, data set, model and settings. Two runs must agree to be compared."""
    valid: bool
    """False if and only if `invalid_because` is set."""
    invalid_because: str | None
    """Why the value must not be used, or why it was not measured."""

    @property
    def status(self) -> str:
        """One of `measured`, `invalid` and `not measured`."""
        if self.raw is None:
            return "not measured"
        return "measured" if self.valid else "invalid"


@dataclass(frozen=True, kw_only=True)
class NotebookRun:
    """The result of executing one notebook."""

    name: str
    status: Literal["done", "failed", "skipped"]
    seconds: float
    error: str | None = None
    git_commit: str | None = None
    """Commit that executed the notebook in a resumed run, if it is not that of the run."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`manifest.json`: which command and commit made a run, when, on which machine, with which data, and its files.

    `finished`, `data`, `models`, `files` and `seal` are set when the run is sealed (`verification.seal_run`).
    """

    schema_version: Literal[1] = 1
    run_id: str
    profile: str
    command: str
    started: datetime
    finished: datetime | None = None
    complete: bool = False
    git_commit: str | None
    git_dirty: bool | None
    """Whether the checkout had uncommitted changes. Both are None outside a git checkout."""
    environment: dict[str, Any]
    """`environment.environment_info` of the machine that made the run."""
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name of each data set in the records → its row counts and sha256."""
    models: dict[str, str | None] = field(default_factory=dict)
    """Name of each base model in the records → sha256 of its weights."""
    notebooks: list[NotebookRun] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """Path → sha256 of every file of the folder except `manifest.json`; empty until the run is sealed."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Path → sha256 of files of the original run that this copy does not contain (`bankllm publish` omits weights)."""
    renderer: str | None = None
    """`report.render.renderer()` if the pages are exactly what it writes for this run; None in runs before 0.2."""
    seal: str | None = None
    """sha256 of `manifest.json` itself, computed with zeros in place of the seal. It is not a signature."""


def as_json(document: Any, indent: int | None = None) -> str:
    """Returns the JSON text of a dataclass; without `indent`, in one line. Lone surrogates are replaced by `?`."""
    style: dict[str, Any] = {"indent": indent} if indent else {"separators": (",", ":")}
    text = json.dumps(asdict(document), ensure_ascii=False, allow_nan=False, default=datetime.isoformat, **style)
    return text.encode(errors="replace").decode()


def parse(text: str | bytes, kind: type[T]) -> T:
    """Reads a JSON document as one of the classes above.

    Raises `ValueError` for a missing, unknown or mistyped field, a duplicate key, NaN, or a newer schema version.
    """
    document = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_reject_constant)
    facts = document if isinstance(document, dict) else {}
    version = facts.get("schema_version")
    if type(version) is int and version > SCHEMA_VERSION:
        raise ValueError(
            f"was written by a newer bankllm (schema version {version}, supported: {SCHEMA_VERSION}); "
            "update bankllm, or run the verifier in the run folder"
        )
    try:
        read: T = _read(document, kind, "")
    except ValueError as error:
        raise ValueError(f"{facts['id']}: {error}" if "id" in facts else str(error)) from None
    return read


def _read(value: Any, kind: Any, at: str) -> Any:
    """Returns a JSON value as the annotated type `kind`; `at` is its place in the document, for error messages."""
    origin, arguments = get_origin(kind), get_args(kind)
    inner = f"{at}." if at else ""
    if kind is Any:
        return value
    if origin is UnionType:  # all unions are `X | None`
        return None if value is None else _read(value, arguments[0], at)
    if origin is Literal and any(value == one and type(value) is type(one) for one in arguments):
        return value
    if hasattr(kind, "__dataclass_fields__") and isinstance(value, dict):
        known = {one.name: one for one in fields(kind)}
        for name, one in known.items():
            if name not in value and one.default is MISSING and one.default_factory is MISSING:
                raise ValueError(f"field {inner}{name} is missing")
        if unknown := sorted(value.keys() - known.keys()):
            raise ValueError(f"field {inner}{unknown[0]} is unknown")
        return kind(**{name: _read(item, known[name].type, f"{inner}{name}") for name, item in value.items()})
    if origin is dict and isinstance(value, dict):
        return {key: _read(item, arguments[1], f"{inner}{key}") for key, item in value.items()}
    if origin is list and isinstance(value, list):
        return [_read(item, arguments[0], f"{inner}{i}") for i, item in enumerate(value)]
    if origin is tuple and isinstance(value, list) and len(value) == len(arguments):
        return tuple(_read(item, wanted, at) for item, wanted in zip(value, arguments, strict=True))
    if kind is datetime and isinstance(value, str):
        return datetime.fromisoformat(value)
    if type(value) is int and kind in (int, float) and abs(value) < 2**63:
        return kind(value)
    if type(value) is kind and kind is not int:
        return value
    expected = kind.__name__ if isinstance(kind, type) and origin is None else kind
    raise ValueError(f"field {at or 'document'}: expected {expected}, found {json.dumps(value)[:40]}")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("an object has a duplicate key")
    return members


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
