"""Fill the wordings of `templates/RESUME.md.j2` with numbers that are bound to records.

What the run lacks is named as not measured, so that no reader fills in a blank by hand.
"""

import re
from collections.abc import Mapping, Sequence

from bankllm.evidence import claim_syntax
from bankllm.evidence.format import format_part
from bankllm.evidence.records import Record
from bankllm.evidence.report.summary import best_training, measured_by_id

FIELD = re.compile(r"\{([\w.@-]+)(?:#(\w+))?\}")
"""A field of a wording: `{RECORD_ID}`, `{RECORD_ID#PART}`, or one of the names of `Wordings`."""
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
