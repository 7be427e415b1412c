"""The résumé block in three lengths, in Markdown and LaTeX: sentences around bound numbers.

A phrase whose records were not measured (or are invalid) is left out and named, so that no blank is filled by hand.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bankllm.evidence import claim_syntax
from bankllm.evidence.format import format_part
from bankllm.evidence.records import Record
from bankllm.evidence.report.summary import best_training, measured_by_id

FIELD = re.compile(r"\{([\w.@-]+)(?:#(\w+))?\}")

Phrase = tuple[str, ...]
"""Wordings of one fact, the best first: the first whose records were all measured is taken."""

TRAINED: Phrase = (
    "fine-tuned {model} ({configuration}) to {best} test accuracy on {dataset} (95 % interval {best#ci95}, "
    "n = {best#n}) in {best_train_s}",
    "fine-tuned {model} ({configuration}) to {best} test accuracy on {dataset} (95 % interval {best#ci95}, "
    "n = {best#n})",
)
ALONE: Phrase = (
    "p50 {chat.sequential.p50_ms} and p95 {chat.sequential.p95_ms} one request at a time",
    "p50 {chat.sequential.p50_ms} one request at a time",
)
THROUGHPUT: Phrase = (
    "{load.ab.throughput} under load, {load.ab.ok} without an error",
    "{load.locust.throughput} under load, {load.locust.ok} without an error",
)
OPEN: Phrase = (
    "p95 {load.openloop.p95_ms} for arrivals at a fixed rate",
    "p95 {load.locust.p95_ms} under load",
    "p95 {load.ab.p95_ms} under load",
)
MEMORY: Phrase = (
    "semantic search over {vectors.indexed} at p95 {vectors.total.p95_ms} end to end",
    "semantic search over {vectors.indexed} at p50 {vectors.total.p50_ms} end to end",
)
RECALL: Phrase = ("{vectors.recall} recall@10 against an exact computation",)

LINE = ("; ", ("{best} on {dataset} with {configuration}",), ALONE, THROUGHPUT, MEMORY)
BULLETS = (
    ("Model: ", "", (TRAINED,)),
    ("Service: FastAPI chat, ", "served it as a FastAPI chat with ", (ALONE, THROUGHPUT, OPEN)),
    ("Memory: durable vector store, ", "gave it a durable memory with ", (MEMORY, RECALL)),
)
"""How a bullet begins, how the paragraph's sentence begins, and what both tell."""


@dataclass(frozen=True)
class Resume:
    """The block, in Markdown and LaTeX, and what was left out of it."""

    line: str
    bullets: tuple[str, ...]
    paragraph: str
    latex: str
    left_out: tuple[str, ...]
    """Ids of records that a phrase would have needed."""


def write_resume(records: Sequence[Record], host: str, profile: str) -> Resume:
    """Word a run's records. `host` and `profile` say on what the numbers were measured."""
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
    separator, *line = LINE
    facts = [(head, lead, body) for head, lead, phrases in BULLETS if (body := markdown.join(phrases, ", "))]
    told = " ".join(f"{_sentence(lead + body)}." for _, lead, body in facts)
    measured_on = f"Measured on {host}, profile {profile}; every figure is recomputed from its raw rows by one command."
    items = [
        f"  \\item {claim_syntax.tex(head)}{body}."
        for head, _, phrases in BULLETS
        if (body := latex.join(phrases, ", "))
    ]
    snippet = ["\\providecommand{\\claim}[2]{#2}", "\\begin{itemize}", *items, "\\end{itemize}"]
    return Resume(
        line=_sentence(markdown.join(line, separator)),
        bullets=tuple(f"{head}{body}." for head, _, body in facts),
        paragraph=f"{told} {measured_on}".strip(),
        latex="\n".join(snippet) if items else "",
        left_out=tuple(sorted(markdown.missing)),
    )


@dataclass
class _Writer:
    measured: Mapping[str, Record]
    names: Mapping[str, str]
    bind: Callable[[str, str, str], str]
    escape: Callable[[str], str]

    def __post_init__(self) -> None:
        self.missing: set[str] = set()

    def join(self, phrases: Sequence[Phrase], separator: str) -> str:
        """Those phrases that can be told."""
        return separator.join(filter(None, map(self._tell, phrases)))

    def _tell(self, phrase: Phrase) -> str | None:
        for wording in phrase:
            needed = [id for id, _ in FIELD.findall(wording) if id not in self.names]
            if all(id in self.measured for id in needed):
                return self._fill(wording)
            self.missing |= {id for id in needed if id not in self.measured}
        return None

    def _fill(self, wording: str) -> str:
        told, end = [], 0
        for match in FIELD.finditer(wording):
            told.append(self.escape(wording[end : match.start()]))
            end = match.end()
            id, part = match[1], match[2] or ""
            if id in self.names:
                told.append(self.escape(self.names[id]))
            else:
                record = self.measured[id]
                told.append(self.bind(record.id, format_part(record, part), part))
        return "".join([*told, self.escape(wording[end:])])


def _sentence(text: str) -> str:
    """With a capital letter; a number that begins it stays what it is."""
    return text[:1].upper() + text[1:]
