"""Find names of merchants, payees and categories in a message: the customer's own, or words that are likely names."""

import re
from collections.abc import Mapping, Sequence

from rapidfuzz.distance import OSA

from bankllm.assistant.bank.tools import MAX_CALLS
from bankllm.assistant.followups import is_follow_up
from bankllm.assistant.understanding import WORDS, calendar_words, patterns
from bankllm.assistant.understanding.names import LONGEST_NAME, fitting, plain
from bankllm.assistant.understanding.spoken_text import WORD, P, Span, SpokenText, apart

SHORT_WORD = 4
"""Letters up to which an unknown word beside a name may be no name: "tesco and eh"."""
FREQUENT = 300
"""Words of a lower rank are never a name unless they have a capital letter."""
NEW = 10**9
"""Rank of a word that is not listed."""
SHORT = 7
"""Words of a message in which any unknown word may be a merchant."""
SHOPS = (" place", " shop", " store")
"""What follows a part of a merchant's name: "the sushi place"."""
ASKED_TOO = re.compile(WORDS["certain_names"]["asked_too"])
_CATEGORIES = [words for name in ("near_categories", "categories") for pair in WORDS[name].items() for words in pair]
_CATEGORY = re.compile(rf"(?<!\w)(?:{'|'.join(_CATEGORIES)})(?!\w)", re.IGNORECASE)
_SURE = "|".join("|".join(pair) for pair in WORDS["categories"].items())
_SURE_CATEGORY = re.compile(rf"(?<!\w)(?:{_SURE})(?!\w)", re.IGNORECASE)
_CATEGORY_WORDS = patterns("arguments")["category"]
_DATE = re.compile(rf"{calendar_words.MONTH}|(?:{calendar_words.WEEKDAY})s?", re.IGNORECASE)
_TITLES = frozenset(("mr.", "mrs.", "ms.", "dr.", "st.", "messrs."))
_NAME = re.compile(r"(?P<who>(?:u+ )*)(?P<name>C+(?: (?:k+ |& ){0,2}C+)*)|u+(?: u+)*")
"""A name among kinds of words: `C`apital letter, `u`nknown, `k` for a link such as "of"."""


class SpokenNames:
    def __init__(self, text: SpokenText, ordinary: Mapping[str, int], names: Sequence[str]) -> None:
        """`ordinary` has words that are no names, with their rank by frequency; `names` are the customer's own."""
        self.text, self.ordinary, self.names = text, ordinary, names

    def named(self, kind: str, least: int) -> list[Span]:
        """Find merchants or payees: a name of the customer's own, or words that are likely names."""
        text = self.text
        if own := self.own(kind):
            more = [found.span("name") for found in ASKED_TOO.finditer(text.rest)] if kind == "merchant" else []
            return self.with_listed(sorted(own + apart(more, own)))[:MAX_CALLS]
        kinds = WORD.sub(self._kind, text.rest)
        spans: list[Span] = []
        scores: list[int] = []
        for match in _NAME.finditer(kinds):
            start, end = match.span("name") if match["name"] else match.span()
            words = text.rest[start:end].split()
            trip = P["trip_after"].match(text.rest[end:]) or P["trip_before"].search(text.rest[:start])
            if trip or len(words) > LONGEST_NAME:
                continue
            before, capital = text.rest[: match.start()], kinds[start] == "C"
            score = 2 * bool(P[f"{kind}_link"].search(before)) + bool(P["verb_after"].match(text.rest[end:]))
            score += 2 * (capital and start > 0 and not re.search(r"[.?!] $", before))
            score += words[0].lower() not in self.ordinary
            if spans and self._listed(spans[-1], (start, end)):
                scores[-1] = score = max(score, scores[-1])
            spans.append((start, end))
            scores.append(score)
        asks = is_follow_up(text.message) or P["names_only"].fullmatch(text.message) or P["asks"].search(text.message)
        if self.names and (len(text.message.split()) > SHORT or not asks):
            least = max(least, 2)  # the customer's own names are known: another word must look like a name
        best = max([*scores, least])
        return text.meant([span for score, span in zip(scores, spans, strict=True) if score == best])[:MAX_CALLS]

    def own(self, kind: str) -> list[Span]:
        """Find the customer's own names: whole ones, else misspelt ones, else parts of one ("Aoife").

        A part of one also counts after a whole one that is taken back: "Tom Baker. No, make it Shaw".
        """
        found = self.whole(kind) or self._fitting(kind, typos=True) or self._fitting(kind, partial=True)
        if not found or not P["correction"].search(self.text.rest, found[-1][1]):
            return found
        words = [match.span() for match in WORD.finditer(self.text.rest, found[-1][1])]
        parts = [one for one in words if P[f"{kind}_link"].search(self.text.rest[: one[0]]) and self.is_own(one)]
        return self.text.meant(found + parts)

    def whole(self, kind: str) -> list[Span]:
        """Find the customer's own names that are written as they are."""
        return self._fitting(kind)

    def _fitting(self, kind: str, *, partial: bool = False, typos: bool = False) -> list[Span]:
        rest = self.text.rest
        words = [match.span() for match in WORD.finditer(rest)]
        spans: list[Span] = []
        for length in range(4, 0, -1):
            for (start, _), (_, end) in zip(words, words[length - 1 :], strict=False):
                piece = rest[start:end]
                if "|" in piece or not apart([(start, end)], spans):
                    continue
                if (partial or typos) and ("," in piece or not self._is_unusual(piece, partial)):
                    continue
                found = fitting(piece, self.names, partial=partial, typos=typos)
                if not found or (typos and len(plain(found[0]).split()) != length):
                    continue
                if length > 1 or self._looks_like_name(kind, start, end):
                    spans.append((start, end))
        return self.text.meant(sorted(spans))

    def _is_unusual(self, piece: str, partial: bool) -> bool:
        """Whether words may be misspelt, or a part of a name: their rarest word is not listed."""
        if len(piece) <= 3 or _CATEGORY.fullmatch(piece):
            return False
        telling = [word for word in piece.split() if plain(word) not in WORDS["in_names"]["any"]]
        ranks = [self.ordinary.get(word.lower().rstrip(".'’-"), NEW) for word in telling]
        several = len(telling) > 1 or (telling and piece.lower().endswith(SHOPS))
        return max(ranks, default=0) >= (FREQUENT if partial and several else NEW)

    def _looks_like_name(self, kind: str, start: int, end: int) -> object:
        """Whether a word is no ordinary one ("three"), or stands where a name stands."""
        rest = self.text.rest
        return (
            rest[start:end].lower() not in self.ordinary
            or P[f"{kind}_link"].search(rest[:start])
            or (start and rest[start].isupper())
            or P["verb_after"].match(rest[end:])
        )

    def with_listed(self, own: list[Span]) -> list[Span]:
        """Add names beside the customer's own ones: "costa and pret" for "Costa" and "Pret A Manger"."""
        spans, rest = list(own), self.text.rest
        for match in WORD.finditer(rest):
            start, end = match.span()
            beside = any(P["and"].fullmatch(rest[min(last, end) : max(start, first)]) for first, last in own)
            if not beside or any(first <= start and end <= last for first, last in own):
                continue
            unknown = self._kind(match)[0] in "Cu"
            new = unknown and (match[0][0].isupper() or len(match[0]) > SHORT_WORD)
            if new or fitting(match[0], self.names, partial=unknown, typos=False):
                spans.append((start, end))
        return sorted(spans)

    def categories(self) -> list[Span]:
        """Find words for categories; those that have other meanings too only where a category is likely."""
        text, rest = self.text, self.text.rest
        known = text.found(_CATEGORY_WORDS)
        likely = [
            match.span()
            for words in (_SURE_CATEGORY, _CATEGORY)
            for match in words.finditer(rest)
            if P["before_category"].search(rest[: match.start()]) or P["after_category"].match(rest[match.end() :])
        ]
        parts = [
            one for one in likely if any(start <= one[0] and one[1] <= end for start, end in {*likely, *known} - {one})
        ]
        likely = [one for one in dict.fromkeys(likely) if one not in parts]  # "car parks" are no car
        misspelt = [match.span() for match in WORD.finditer(rest) if self._is_category(match[0])]
        return text.meant(sorted(likely + apart(known + apart(misspelt, known), likely)))

    def _is_category(self, word: str) -> bool:
        """Whether an unknown word is a misspelt category: "salray"."""
        if len(word) < 5 or word.lower() in self.ordinary:
            return False
        found = fitting(word, WORDS["categories"], partial=False)
        return bool(found) and found[0][0] == word[0].lower()

    def with_categories(self, own: list[Span], categories: list[Span]) -> list[Span]:
        """Add the categories of a list to the customer's own names in it: "Uber, takeaways and Ticketmaster"."""
        sure = [one for one in categories if _SURE_CATEGORY.fullmatch(self.text[one])]
        own = [one for one in own if not any(self._is_part(one, of) for of in sure)]
        spans = self.parts(sorted(own + apart(sure, own)))
        listed = own and all(self.is_own(one) for one in own) and all(map(self._listed, spans, spans[1:]))
        return spans[:MAX_CALLS] if listed else own

    def parts(self, spans: list[Span]) -> list[Span]:
        """Leave out a general category before a list of its parts: "transport in October, gas and Uber"."""
        general = len(spans) > 2 and P["general_category"].fullmatch(self.text[spans[0]])
        if general and P["all_that"].search(self.text.message):
            return spans[:1]
        parts = general and not self._listed(*spans[:2]) and all(map(self._listed, spans[1:], spans[2:]))
        return spans[1:] if parts else spans

    def _listed(self, one: Span, other: Span) -> bool:
        return P["listed"].fullmatch(self.text.rest[one[1] : other[0]]) is not None

    def _is_part(self, own: Span, category: Span) -> bool:
        """Whether a part of a name is only a part of a category's: "the council" of "the council tax"."""
        return category[0] < own[1] < category[1] and not self.is_own(own, partial=False)

    def is_own(self, span: Span, *, partial: bool = True) -> bool:
        return bool(fitting(self.text[span], self.names, partial=partial))

    def after(self, links: str) -> list[Span]:
        """Find the first word after one of the links that is rare enough for a name."""
        for link in P[links].finditer(self.text.rest):
            word = WORD.match(self.text.rest, link.end())
            if not word or P["verb_phrase"].match(self.text.rest, word.end()):
                continue  # "to cover it" says what for
            named = not P["no_name"].fullmatch(word[0]) and not P["plain_word"].fullmatch(word[0])
            if named and self.ordinary.get(word[0].lower(), FREQUENT) >= FREQUENT:
                return [(word.start(), word.start() + len(word[0].rstrip(".'’-")))]
        return []

    def _kind(self, match: re.Match[str]) -> str:
        word = match[0] if match[0].lower() in _TITLES else match[0].rstrip(".'’-")
        base = re.sub(r"['’]s$", "", word)
        word = base if base.lower() in self.ordinary else word
        shouted, date = self.text.message.isupper(), _DATE.fullmatch(word)
        known = (
            word.lower() in self.ordinary
            or (word.endswith("in") and f"{word}g".lower() in self.ordinary)  # sittin, goin
            or P["plain_word"].fullmatch(word)
            or ((shouted or word.islower()) and self._is_misspelt(word.lower()))
            or word[0].isdigit()
            or date
            or (len(word) < 3 and word.islower())
        )
        stressed = known and len(word) > 1 and word.isupper()  # "what came IN"
        unlike = shouted or stressed or date or word.startswith("I'") or word in ("I", "The")
        capital = word[0].isupper() and not unlike and (match.start() > 0 or not known)
        kind = "C" if capital else "k" if word.lower() in ("of", "the") else "." if known else "u"
        return kind * len(word) + match[0][len(word) :]

    def _is_misspelt(self, word: str) -> bool:
        """Whether an unknown word is a frequent one with two letters exchanged, or with one wrong letter of many."""
        frequent = (other for other, rank in self.ordinary.items() if rank < FREQUENT and other[0] == word[0])
        return len(word) > 3 and any(
            OSA.distance(word, other) == 1 and (len(other) > 6 or sorted(word) == sorted(other)) for other in frequent
        )
