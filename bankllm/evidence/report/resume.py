"""Write a résumé block in three lengths, in Markdown and LaTeX, with numbers that are bound to records.

A phrase that needs a record without a valid measurement is omitted, so that nobody fills in a blank by hand. The ids of
the missing records are listed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bankllm.evidence import claim_syntax
from bankllm.evidence.format import format_part
from bankllm.evidence.records import Record
from bankllm.evidence.report.summary import best_training, measured_by_id

FIELD = re.compile(r"\{([\w.@-]+)(?:#(\w+))?\}")
"""A field of a wording: `{RECORD_ID}`, `{RECORD_ID#PART}`, or `{NAME}` for one of the names."""

Phrase = tuple[str, ...]
"""Alternative wordings of one fact, the most informative first. The first one with all records measured is used."""

TRAINED: Phrase = (
    "fine-tuned {model} ({configuration}) to {best} test accuracy on {dataset} (95 % interval {best#ci95}, "
    "n = {best#n}) in {best_train_s}",
    "fine-tuned {model} ({configuration}) to {best} test accuracy on {dataset} (95 % interval {best#ci95}, "
    "n = {best#n})",
)
SEQUENTIAL: Phrase = (
    "p50 {chat.sequential.p50_ms} and p95 {chat.sequential.p95_ms} one request at a time",
    "p50 {chat.sequential.p50_ms} one request at a time",
)
THROUGHPUT: Phrase = (
    "{load.ab.throughput} under load, {load.ab.ok} of requests without an error",
    "{load.locust.throughput} under load, {load.locust.ok} of requests without an error",
)
TAIL_LATENCY: Phrase = (
    "p95 {load.openloop.p95_ms} for arrivals at a fixed rate",
    "p95 {load.locust.p95_ms} under load",
    "p95 {load.ab.p95_ms} under load",
)
SEARCH: Phrase = (
    "semantic search over {vectors.indexed} at p95 {vectors.total.p95_ms} end to end",
    "semantic search over {vectors.indexed} at p50 {vectors.total.p50_ms} end to end",
)
RECALL: Phrase = ("{vectors.recall} recall@10 against an exact computation",)

ONE_LINE = ("; ", ("{best} on {dataset} with {configuration}",), SEQUENTIAL, THROUGHPUT, SEARCH)
BULLETS = (
    ("Model: ", "", (TRAINED,)),
    ("Service: FastAPI chat, ", "served it as a FastAPI chat with ", (SEQUENTIAL, THROUGHPUT, TAIL_LATENCY)),
    ("Memory: durable vector store, ", "gave it a durable memory with ", (SEARCH, RECALL)),
)
"""Per fact: the beginning of its bullet, the beginning of its sentence in the paragraph, and the phrases of both."""


@dataclass(frozen=True)
class Resume:
    """The résumé block. The first three fields are Markdown. A text is empty if nothing in it was measured."""

    line: str
    bullets: tuple[str, ...]
    paragraph: str
    latex: str
    """The bullets as a LaTeX list."""
    left_out: tuple[str, ...]
    """Sorted ids of the records that were needed for an omitted wording."""


def write_resume(records: Sequence[Record], host: str, profile: str) -> Resume:
    """Write the résumé block for the records of a run.

    `host` and `profile` describe the conditions of the measurement; the paragraph names them.
    """
    measured = measured_by_id(records)
    names: dict[str, str] = {}
    if best := best_training(records):
        measured |= {"best": best}
        names = {
            "model": str(best.conditions.get("model", "a small encoder")),
            "configuration": str(best.conditions.get("configuration", best.id.split(".")[1])),
            "dataset": str(best.conditions.get("dataset", "an unnamed data set")),
        }
        if cost := measured.get(best.id.replace(".accuracy", ".train_s")):
            measured |= {"best_train_s": cost}
    markdown = _Writer(measured, names, claim_syntax.markdown, str)
    latex = _Writer(measured, names, claim_syntax.latex, claim_syntax.tex)
    separator, *line = ONE_LINE
    facts = [(head, lead, body) for head, lead, phrases in BULLETS if (body := markdown.join(phrases, ", "))]
    sentences = " ".join(f"{_sentence(lead + body)}." for _, lead, body in facts)
    measured_on = f"Measured on {host}, profile {profile}; one command recomputes every number from its raw rows."
    items = [
        f"  \\item {claim_syntax.tex(head)}{body}."
        for head, _, phrases in BULLETS
        if (body := latex.join(phrases, ", "))
    ]
    snippet = ["\\providecommand{\\claim}[2]{#2}", "\\begin{itemize}", *items, "\\end{itemize}"]
    return Resume(
        line=_sentence(markdown.join(line, separator)),
        bullets=tuple(f"{head}{body}." for head, _, body in facts),
        paragraph=f"{sentences} {measured_on}".strip(),
        latex="\n".join(snippet) if items else "",
        left_out=tuple(sorted(markdown.missing)),
    )


@dataclass
class _Writer:
    """Fills wordings with bound numbers in one markup language, and collects the missing record ids."""

    measured: Mapping[str, Record]
    """Field → record."""
    names: Mapping[str, str]
    """Field → text that is not a number, such as the name of the model."""
    bind: Callable[[str, str, str], str]
    """Writes a bound number: (record id, text, part of the record) → markup."""
    escape: Callable[[str], str]
    """Escapes plain text for the markup language."""

    def __post_init__(self) -> None:
        self.missing: set[str] = set()

    def join(self, phrases: Sequence[Phrase], separator: str) -> str:
        """The phrases whose records are measured, filled in and joined."""
        return separator.join(filter(None, map(self._write, phrases)))

    def _write(self, phrase: Phrase) -> str | None:
        for wording in phrase:
            needed = [id for id, _ in FIELD.findall(wording) if id not in self.names]
            if all(id in self.measured for id in needed):
                return self._fill(wording)
            self.missing |= {id for id in needed if id not in self.measured}
        return None

    def _fill(self, wording: str) -> str:
        parts, end = [], 0
        for match in FIELD.finditer(wording):
            parts.append(self.escape(wording[end : match.start()]))
            end = match.end()
            id, part = match[1], match[2] or ""
            if id in self.names:
                parts.append(self.escape(self.names[id]))
            else:
                record = self.measured[id]
                parts.append(self.bind(record.id, format_part(record, part), part))
        return "".join([*parts, self.escape(wording[end:])])


def _sentence(text: str) -> str:
    """The text with an upper-case first letter."""
    return text[:1].upper() + text[1:]
