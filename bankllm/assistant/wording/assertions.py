"""Check that a generated reply claims what the facts say: besides figures, also names, negations and promises.

    Claims(["Everyday: balance £50.00", "Savings: balance £120.00"]).faults("Savings has £50.00.")

The rules compare words, so they find common faults and not every one; `benchmarks/guard.py` measures them.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal, NamedTuple

from bankllm.assistant.bank.knowledge import DATA
from bankllm.util.figures import find_figures, known_figures

Fault = Literal["figure", "swapped", "dropped", "negation", "promise"]

_SENTENCE = re.compile(r"(?<=[.!?…])[\"”’')\]]*\s+|\n|; ")
_CLAUSE = re.compile(r"(?<!\d)[,.:;]|[,.:;](?!\d)|\b(?:and|but|while|though|although|unless)\b", re.I)
_ARTICLE = re.compile(r"(?:Article [\"“]|About “)[^\"”]*[\"”]: ")
_NOTHING = re.compile(r"^Not (?:found|understood)|^0 |\bin 0 payments\b")
_MONEY = re.compile(r"(?:[£€$¥]|\b[A-Z]{3} )(\d[\d,]*(?:\.\d+)?)|\b(\d[\d,]*(?:\.\d+)?) [A-Z]{3}\b")
_ENDING = re.compile(r"(?<=ending )\d+")
_BALANCE = re.compile(rf"\bbalance (?:on [\w ]+? )?([-−]?)({_MONEY.pattern})")
_GUARD = tomllib.loads((DATA / "guard.toml").read_text(encoding="utf-8"))
"""The words that are looked for, see the comments of the file."""
_COMMON, _OPPOSITES = frozenset(_GUARD["common"].split()), _GUARD["opposites"]
P = {name: re.compile(pattern) for name, pattern in _GUARD["patterns"].items()}


class _Unit(NamedTuple):
    """A fact, or an entry of a fact that lists several, with the words and the figures that no other one has."""

    names: frozenset[str]
    values: frozenset[str]


class _Clause(NamedTuple):
    stems: frozenset[str]
    negated: bool
    opposed: frozenset[str]
    """Stems that stand for their opposite."""


@dataclass(frozen=True)
class Claims:
    """The facts for one reply, prepared for the checks."""

    facts: Sequence[str]

    def faults(self, reply: str) -> list[Fault]:
        """Return the kinds of faults of a whole reply; empty for one that may be sent."""
        found = {fault for sentence in _SENTENCE.split(reply) for fault in self.faults_of(sentence)}
        if not find_figures(reply) <= known_figures("\n".join(self.facts)):
            found.add("figure")
        return sorted(found | ({"dropped"} if self.drops(reply) else set()))

    def faults_of(self, sentence: str) -> set[Fault]:
        """The faults that one sentence shows: all but missing facts, and figures that are not known."""
        checks: tuple[tuple[Fault, bool], ...] = (
            ("swapped", self._swaps(sentence)),
            ("negation", self._negates(sentence)),
            ("promise", self._promises(sentence)),
        )
        return {fault for fault, holds in checks if holds}

    def drops(self, reply: str) -> bool:
        """Whether a reply leaves out a fact: none of its amounts is stated, nor the number of its card."""
        stated = set(_tokens(reply))
        for fact in self._plain:
            needed = _amounts(fact) - {"0"} or ({*_ENDING.findall(fact)} if fact.count("ending") == 1 else set())
            if needed and not needed & stated:
                return True
        return (
            bool(self._plain)
            and not self._positive
            and not (P["negator"].search(reply) or {"0", "?"} & {*stated, reply[-1:]})
        )

    @cached_property
    def _plain(self) -> list[str]:
        """The facts that are no articles."""
        return [fact for fact in self.facts if not _ARTICLE.match(fact)]

    @cached_property
    def _positive(self) -> list[str]:
        return [fact for fact in self._plain if not _NOTHING.search(fact)]

    @cached_property
    def _units(self) -> list[_Unit]:
        names, values = [], []
        for fact in self._plain:
            head, _, tail = fact.partition(": ")
            entries = tail.split("; ")
            for piece in entries if len(entries) > 1 else [fact]:
                money = _amounts(piece)
                words = _words(head if piece == fact else piece) or _words(piece)
                names.append(words | ({*_ENDING.findall(head)} if money else set()))
                values.append(money or {token for token in _tokens(piece) if token[0].isdigit()})
        name_counts, value_counts = (Counter(token for some in sets for token in some) for sets in (names, values))
        return [
            _Unit(
                frozenset(token for token in some if name_counts[token] == 1),
                frozenset(token for token in figures if value_counts[token] == 1),
            )
            for some, figures in zip(names, values, strict=True)
        ]

    def _swaps(self, sentence: str) -> bool:
        """Whether names and figures that stand side by side belong to different facts."""
        mentions = [
            ("name" if token in unit.names else "value", number)
            for token in _tokens(sentence)
            for number, unit in enumerate(self._units)
            if unit.names and token in unit.names | unit.values
        ]
        runs = [
            [key for key, _ in groupby(number for _, number in run)] for _, run in groupby(mentions, lambda m: m[0])
        ]
        for first, second in zip(runs[::2], runs[1::2], strict=False):
            pairs = zip(first, second, strict=True) if len(first) == len(second) else [(first[-1], second[0])]
            if any(one != other for one, other in pairs):
                return True
        if len(runs) % 2 == 0 or len(runs) < 3 or mentions[-1][0] == "value":
            return False
        return runs[-1][0] != runs[-2][-1] and ("value", runs[-1][0]) in mentions

    def _negates(self, sentence: str) -> bool:
        said = set(_tokens(sentence))
        about = [
            fact
            for fact in self._positive
            if said & _amounts(fact) or len(said & _words(fact)) >= max(1, min(2, len(_words(fact))))
        ]
        if self._turns_direction(sentence, about) or self._contradicts_article(sentence):
            return True
        if any(said & _words(fact) for fact in self._plain if fact not in self._positive and fact not in about):
            return False  # the sentence may deny that fact
        after_colon = re.sub(r"^(?:[^ :]+(?: [^ :]+){0,6}: |(?:no|yes)\b[,.]? *)", "", sentence, flags=re.IGNORECASE)
        denied = bool(P["negator"].search(after_colon)) and not re.search(r"\bI\b|\bentr(?:y|ies)\b", sentence)
        return any(
            (denied and not P["negator"].search(fact)) or self._opposes(said, set(_tokens(fact))) for fact in about
        ) or any(self._opposes(said, set(_tokens(fact))) for fact in self._positive if said & {*_ENDING.findall(fact)})

    def _opposes(self, said: set[str], known: set[str]) -> bool:
        """Whether a sentence has the opposite of a word of the fact, and not that word."""
        return any(
            (word in known and right in said and word not in said)
            or (right in known and word in said and right not in said)
            for word, right in _OPPOSITES.items()
            if word != "nothing"
        )

    def _turns_direction(self, sentence: str, about: Sequence[str]) -> bool:
        """Whether a sentence takes money out for money in, or an overdraft for money that is there."""
        said = set(_tokens(sentence))
        signs = [found[1] for fact in about if (found := _BALANCE.search(fact)) and said & _amounts(found[2])]
        if signs and any(signs) != bool(P["overdrawn"].search(sentence)):
            return True
        ways = {_direction(fact) for fact in about if said & _amounts(fact)}
        return bool(
            (ways == {"in"} and P["money_out"].search(sentence)) or (ways == {"out"} and P["money_in"].search(sentence))
        )

    def _contradicts_article(self, sentence: str) -> bool:
        """Whether a clause has the words of an article's clause, and only one of the two is negated."""
        return any(self._contradicts_clause(_clause(text)) for text in _CLAUSE.split(sentence))

    def _contradicts_clause(self, said: _Clause) -> bool:
        best, known = 0.0, said
        for clause in self._article_clauses:
            common = len(said.stems & clause.stems)
            share = common / max(1, min(len(said.stems), len(clause.stems)))
            if common > 1 and share >= 0.6 and share + common > best:
                best, known = share + common, clause
        shared = said.stems & known.stems
        turned = len(said.opposed & shared) + len(known.opposed & shared)
        return (said.negated != known.negated) != (turned % 2 == 1)

    @cached_property
    def _article_clauses(self) -> list[_Clause]:
        texts = (_ARTICLE.sub("", fact) for fact in self.facts if _ARTICLE.match(fact))
        return [_clause(clause) for text in texts for clause in _CLAUSE.split(text) if clause.strip()]

    def _promises(self, sentence: str) -> bool:
        """Whether a sentence claims an action or offers something that no fact has."""
        known = " ".join(self.facts).casefold()
        if (found := P["action"].search(sentence)) and found[0].casefold() not in known:
            return True
        verbs = [found[1][:5] for found in P["future"].finditer(sentence) if found[1] not in _GUARD["harmless"]]
        offers = [found[0][:6] for found in P["offer"].finditer(sentence)]
        return any(word.casefold() not in known for word in [*verbs, *offers])


def _tokens(text: str) -> list[str]:
    """Words in lower case, and numbers without currency, sign, separators and closing zeros."""
    tokens = []
    for word in re.findall(r"[^\s\"“”()\[\]:;!?]+", text):
        token = word.strip(".,'‘’+-−–£€$¥%…").casefold()
        if re.search(r"\d", token):
            token = re.sub(r"\.0+$|(\.\d*[1-9])0+$", r"\1", token.replace(",", ""))
        if token:
            tokens.append(token.replace("’", "'"))
    return tokens


def _words(text: str) -> set[str]:
    """The words that tell what a text is about."""
    return {token for token in _tokens(text) if not token[0].isdigit()} - _COMMON


def _direction(fact: str) -> str:
    """`in` for money received, `out` for money spent, otherwise empty."""
    signs = {found[0] for found in re.finditer(rf"[-+−](?={_MONEY.pattern})", fact) if not _BALANCE.search(fact)}
    if re.match("Received", fact) or signs == {"+"}:
        return "in"
    return "out" if re.match("Spent|Sent|You spent", fact) or (signs and "+" not in signs) else ""


def _amounts(text: str) -> set[str]:
    """The amounts of money, as `_tokens` writes them."""
    return {_tokens(found[1] or found[2])[0] for found in _MONEY.finditer(text)}


def _clause(text: str) -> _Clause:
    words = [word for word in _tokens(text) if word not in _COMMON]
    opposed = {_stem(_OPPOSITES[word]) for word in words if word in _OPPOSITES}
    stems = {_stem(_OPPOSITES.get(word, word)) for word in words if not P["negator"].match(word) or word in _OPPOSITES}
    negated = bool(P["negator"].search(re.sub(r"\bno more than\b|\bnothing\b", "", text)))
    return _Clause(frozenset(stems), negated, frozenset(opposed))


def _stem(word: str) -> str:
    return word[:5].removesuffix("s")
