"""Write a résumé block in three lengths, in Markdown and LaTeX, with numbers that are bound to records.

A phrase that needs a record without a valid measurement is omitted, so that nobody fills in a blank by hand. The ids of
the missing records are listed.
"""

import re
from collections.abc import Iterable, Sequence
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

ONE_LINE: tuple[Phrase, ...] = (("{best} on {dataset} with {configuration}",), SEQUENTIAL, THROUGHPUT, SEARCH)
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
    """Write the résumé block for the records of a run, measured on `host` with `profile`."""
    measured = measured_by_id(records)
    names: dict[str, str] = {}
    missing: set[str] = set()
    if best := best_training(records):
        measured["best"] = best
        names = {
            "model": str(best.conditions.get("model", "a small encoder")),
            "configuration": str(best.conditions.get("configuration", best.id.split(".")[1])),
            "dataset": str(best.conditions.get("dataset", "an unnamed data set")),
        }
        if cost := measured.get(best.id.replace(".accuracy", ".train_s")):
            measured["best_train_s"] = cost

    def shown(field: re.Match[str]) -> str:
        id, part = field[1], field[2] or ""
        if id in names:
            return names[id]
        return claim_syntax.markdown(measured[id].id, format_part(measured[id], part), part)

    def written(phrase: Phrase) -> str:
        for wording in phrase:
            unknown = {id for id, _ in FIELD.findall(wording)} - {*names, *measured}
            if not unknown:
                return FIELD.sub(shown, wording)
            missing.update(unknown)
        return ""

    def joined(phrases: Iterable[Phrase], separator: str) -> str:
        return separator.join(filter(None, map(written, phrases)))

    facts = [(head, lead, body) for head, lead, phrases in BULLETS if (body := joined(phrases, ", "))]
    bullets = tuple(f"{head}{body}." for head, _, body in facts)
    sentences = " ".join(f"{_sentence(lead + body)}." for _, lead, body in facts)
    measured_on = f"Measured on {host}, profile {profile}; one command recomputes every number from its raw rows."
    items = [f"  \\item {_latex(bullet)}" for bullet in bullets]
    snippet = ["\\providecommand{\\claim}[2]{#2}", "\\begin{itemize}", *items, "\\end{itemize}"]
    return Resume(
        line=_sentence(joined(ONE_LINE, "; ")),
        bullets=bullets,
        paragraph=f"{sentences} {measured_on}".strip(),
        latex="\n".join(snippet) if items else "",
        left_out=tuple(sorted(missing)),
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _latex(markdown: str) -> str:
    """The LaTeX of a line of Markdown, in which only the claims are marked up."""
    parts, end = [], 0
    for claim in claim_syntax.CLAIM.finditer(markdown):
        parts.append(claim_syntax.tex(markdown[end : claim.start()]))
        parts.append(claim_syntax.latex(claim["id"], claim["text"], claim["part"] or ""))
        end = claim.end()
    return "".join([*parts, claim_syntax.tex(markdown[end:])])
