"""The sentences of `RESUME.md`: their numbers are bound to records, and what the run lacks is named as not measured.

No reader has to fill in a blank by hand.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bankllm.evidence import claim_syntax
from bankllm.evidence.format import format_part
from bankllm.evidence.records import Record
from bankllm.evidence.report.summary import best_training, measured_by_id

FIELD = re.compile(r"\{([\w.@-]+)(?:#(\w+))?\}")
"""A field of a wording: `{RECORD_ID}`, `{RECORD_ID#PART}`, or one of the names of `Wordings`."""


@dataclass(frozen=True)
class Fact:
    """What one bullet and one sentence of the résumé say."""

    bullet: str
    """Beginning of the bullet."""
    sentence: str
    """Beginning of the sentence in the paragraph."""
    phrases: Mapping[str, Sequence[str]]
    """Name of what is said → its wordings, the most informative first."""


FACTS = (
    Fact(
        "Models",
        "",
        {
            "accuracy of the classifier": (
                "fine-tuned {model} ({configuration}) to {best} test accuracy on {dataset} (95 % interval {best#ci95}, "
                "n = {best#n}) in {best_train_s}",
                "fine-tuned {model} ({configuration}) to {best} test accuracy on {dataset} (95 % interval {best#ci95}, "
                "n = {best#n})",
            ),
            "understanding of the language model": (
                "tuned {language_model} to turn {tuned.understand_exact} of {tuned.understand_exact#n} messages into "
                "exactly the right tool calls ({language.untuned.understand_exact} before tuning, "
                "{language.rules.understand_exact} by rules)",
                "tuned {language_model} to turn {tuned.understand_exact} of {tuned.understand_exact#n} messages into "
                "exactly the right tool calls",
            ),
            "grounded wording": ("{tuned.word_grounded} of its replies without an ungrounded figure",),
            "speed of generation": ("{tuned.tokens_per_s} generated",),
        },
    ),
    Fact(
        "Service",
        "Served them as a FastAPI chat with ",
        {
            "latency": (
                "p50 {chat.sequential.p50_ms} and p95 {chat.sequential.p95_ms} one request at a time",
                "p50 {chat.sequential.p50_ms} one request at a time",
            ),
            "first word": ("the first word of a streamed reply after {chat.stream.first.p50_ms} (median)",),
            "throughput": (
                "{load.ab.throughput} under load, {load.ab.ok} of requests without an error",
                "{load.locust.throughput} under load, {load.locust.ok} of requests without an error",
            ),
            "latency under load": (
                "p95 {load.openloop.p95_ms} for arrivals at a fixed rate",
                "p95 {load.locust.p95_ms} under load",
                "p95 {load.ab.p95_ms} under load",
            ),
            "cost": (
                "{load.cost.rules.busy.cpu} of CPU time, {load.cost.model.busy.cpu} with the language model "
                "({load.cost.model.busy.price})",
                "{load.cost.rules.busy.cpu} of CPU time, {load.cost.model.busy.cpu} with the language model",
                "{load.cost.rules.busy.cpu} of CPU time",
            ),
            "capacity of the language model": ("the language model serving nine of ten chats up to {load.model.knee}",),
            "goodput and degradation": (
                "at {busiest}/s offered, goodput {busiest.goodput}, {busiest.share} of the chats served by the "
                "language model and {busiest.wrong} of the questions answered wrong",
            ),
            "graded conversations": (
                "{chat.conversations.passed} of {chat.conversations.passed#n} graded conversations passed, "
                "such as transfers, hostile input and people in need",
            ),
        },
    ),
    Fact(
        "Memory",
        "Gave them a durable memory with ",
        {
            "search": (
                "semantic search over {vectors.indexed} at p95 {vectors.total.p95_ms} end to end",
                "semantic search over {vectors.indexed} at p50 {vectors.total.p50_ms} end to end",
            ),
            "ranking": ("{vectors.articles.hybrid.ndcg} nDCG@10 on questions about bank articles",),
        },
    ),
)
ONE_LINE = {
    "accuracy": ("{best} on {dataset} with {configuration}",),
    "understanding": ("{tuned.understand_exact} exactly right tool calls by {language_model}",),
    "latency": ("p95 {chat.sequential.p95_ms} per chat", "p50 {chat.sequential.p50_ms} per chat"),
    "first word": ("first word after {chat.stream.first.p50_ms}",),
    "throughput": ("{load.ab.throughput} under load",),
    "graded conversations": (
        "{chat.conversations.passed} of {chat.conversations.passed#n} graded conversations passed",
    ),
    "search": ("semantic search over {vectors.indexed} at p95 {vectors.total.p95_ms}",),
}
CURVE = "load.model.at_"


class Wordings:
    """Fills the fields of wordings. Besides ids of records, they can name these facts about the best training:
    `{best}`, `{best_train_s}`, `{model}`, `{configuration}` and `{dataset}`; about the tuned language model:
    `{language_model}` and `{tuned.COLUMN}`; about the highest rate of its load test: `{busiest}`, `{busiest.COLUMN}`.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._measured = measured_by_id(records)
        self._names: dict[str, str] = {"language_model": "a small language model"}
        self.missing: set[str] = set()
        """Ids of the records that were needed for an omitted wording."""
        if best := best_training(records):
            about = {"model": "a small encoder", "configuration": best.id.split(".")[1], "dataset": "a data set"}
            self._names |= {name: str(best.conditions.get(name, default)) for name, default in about.items()}
            self._measured["best"] = best
            if cost := self._measured.get(best.id.replace(".accuracy", ".train_s")):
                self._measured["best_train_s"] = cost
        found = [f"language.{name}." for name in ("packaged", "lora_r8", "lora_r8_seed0")]
        tuned = next((prefix for prefix in found if f"{prefix}understand_exact" in self._measured), found[0])
        rates = {id.removeprefix(CURVE).partition(".")[0] for id in self._measured if id.startswith(CURVE)}
        busiest = max(rates, key=lambda rate: float(rate.replace("_", ".")), default="RATE")
        self._prefixes = {"tuned.": tuned, "busiest.": f"{CURVE}{busiest}."}
        if record := self._measured.get(f"{tuned}understand_exact"):
            self._names["language_model"] = str(record.conditions.get("model", self._names["language_model"]))
        if rates:
            self._names["busiest"] = busiest.replace("_", ".")

    def say(self, *wordings: str) -> str:
        """Returns the first wording with all records measured, in Markdown with bound numbers; empty if none has."""
        for wording in wordings:
            for name, prefix in self._prefixes.items():
                wording = wording.replace("{" + name, "{" + prefix)
            unknown = {id for id, _ in FIELD.findall(wording)} - {*self._names, *self._measured}
            if not unknown:
                return FIELD.sub(self._shown, wording)
            self.missing |= unknown
        return ""

    def phrases(self, wordings: Mapping[str, Sequence[str]], beginning: str = "", separator: str = ", ") -> str:
        """Returns the phrases that `say` finds after `beginning`, then the names of the others as not measured."""
        said = {name: self.say(*alternatives) for name, alternatives in wordings.items()}
        missing = ", ".join(name for name, phrase in said.items() if not phrase)
        known = separator.join(filter(None, said.values()))
        return "; ".join(filter(None, (known and beginning + known, missing and f"{missing} not measured")))

    def _shown(self, field: re.Match[str]) -> str:
        id, part = field[1], field[2] or ""
        if id in self._names:
            return self._names[id]
        record = self._measured[id]
        return claim_syntax.markdown(record.id, format_part(record, part), part)


def latex(markdown: str) -> str:
    """Returns the LaTeX of a line of Markdown in which only the claims are marked up."""
    parts, end = [], 0
    for claim in claim_syntax.CLAIM.finditer(markdown):
        marked = claim_syntax.latex(claim["id"], claim["text"], claim["part"] or "")
        parts += [claim_syntax.tex(markdown[end : claim.start()]), marked]
        end = claim.end()
    return "".join([*parts, claim_syntax.tex(markdown[end:])])
