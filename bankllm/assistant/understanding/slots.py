"""Find the arguments of a tool in a message by rules. Every value is copied, as a language model copies it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from itertools import pairwise

from rapidfuzz.distance import OSA

from bankllm.assistant.bank.tools import MAX_CALLS, copied_arguments
from bankllm.assistant.followups import is_follow_up
from bankllm.assistant.understanding import WORDS, amounts, patterns, periods
from bankllm.assistant.understanding.names import LONGEST_NAME, fitting, plain
from bankllm.errors import UsageError

Span = tuple[int, int]
"""Start and end of a value in a message."""

SHORT_WORD = 4
"""Letters up to which an unknown word beside a name may be no name: "tesco and eh"."""
FREQUENT = 300
"""Words of a lower rank are never a name unless they have a capital letter."""
NEW = 10**9
"""Rank of a word that is not listed."""
SHORT = 7
"""Words of a message in which any unknown word may be a merchant."""
LONGEST = 11
"""Words of the longest period or amount that is read."""
P = patterns("patterns")
ASKED_TOO = re.compile(WORDS["certain_names"]["asked_too"])
ARGUMENTS = patterns("arguments")
ORDERS = patterns("orders")
ROUTES = patterns("routes")
PAYDAY = patterns("resolve")["since_payday"]
_TOKEN = re.compile(r"[^\s|(\"'“‘<>≤≥][^\s|]*")
_TRAILING = re.compile(r"(?:['’]s)?[.,;:?!)\"'”…]*$")
_END = re.compile(r"[.?!](?=\s|$)")
_WORD = re.compile(r"[^\W_][\w'’&.*+-]*")
_CATEGORIES = [words for name in ("near_categories", "categories") for pair in WORDS[name].items() for words in pair]
_CATEGORY = re.compile(rf"(?<!\w)(?:{'|'.join(_CATEGORIES)})(?!\w)", re.IGNORECASE)
_SURE_CATEGORY = re.compile("|".join("|".join(pair) for pair in WORDS["categories"].items()), re.IGNORECASE)
CATEGORY_NAMES = tuple(WORDS["categories"])
_DATE = re.compile(rf"{periods.MONTH}|(?:{periods.WEEKDAY})s?", re.IGNORECASE)
_MONTH_AFTER = re.compile(rf"[ ,:(]+(?:{periods.MONTH})\b")
"""What follows "the three months" that are named after it."""
_TITLES = frozenset(("mr.", "mrs.", "ms.", "dr.", "st.", "messrs."))
_NAME = re.compile(r"(?P<who>(?:u+ )*)(?P<name>C+(?: (?:k+ |& ){0,2}C+)*)|u+(?: u+)*")
"""A name among kinds of words: `C`apital letter, `u`nknown, `k` for a link such as "of"."""


class Slots:
    def __init__(self, message: str, ordinary: Mapping[str, int], today: date, names: Sequence[str] = ()) -> None:
        """`ordinary` has words that are no names, with their rank by frequency; `names` are the customer's own."""
        self.message, self.rest = message, P["have_just"].sub(lambda match: "|" * len(match[0]), message)
        self.ordinary, self.today, self.names = ordinary, today, names
        self.context: list[str] = []
        """Periods that the message names and does not ask about, as `periods` finds them."""

    def read(self, tool: str) -> dict[str, list[str]]:
        """Return the arguments that the message names; several values of one if it asks about several."""
        if tool == "report_card":
            return {"kind": [kind for kind in ("stolen", "lost") if P[kind].search(self.message)][:1]}
        if tool == "knowledge":
            return {"question": [self._question()]}
        if tool == "human_agent":
            return {"reason": P["reason"].findall(self.message)[:1]}
        readers: dict[str, Callable[[], list[str]]] = {
            "reference": lambda: self._take(self._known("reference")[:1]),
            "from": lambda: self._take(self._known("from")[:1]),
            "period": self.periods,
            "date": lambda: self._take(self._days(future=tool == "transfer")),
            "limit": lambda: self._take([span for span in self._known("limit") if not self._is_name(span)][:1]),
            "order": lambda: [
                order for order, pattern in ORDERS.items() if re.search(rf"\b(?:{pattern.pattern})", self.rest, re.I)
            ][:1],
            "minimum": lambda: self._take(self._bound("minimum")),
            "maximum": lambda: self._take(self._bound("maximum")),
            "exact": lambda: self._take([match.span() for match in P["exact"].finditer(self.rest)][:1]),
            "amount": lambda: self._take(_final(self.message, self._amounts())),
            "account": lambda: self._take(self._accounts(tool)),
            "card": lambda: self._take(self._known("card")[:1]),
            "to": lambda: self._take(
                self._known("own_account")[:1] or self._named("payee", 2) or self._after("payee_after")
            ),
        }
        wanted = copied_arguments(tool) | ({"order", "exact"} if tool == "transactions" else set())
        found = {argument: read() for argument, read in readers.items() if argument in wanted}
        if found.get("minimum") and f"exactly {found['minimum'][0]}" in self.message:
            found["maximum"] = found["minimum"]
        if (exact := found.pop("exact", [])) and not (found["minimum"] or found["maximum"]):
            found["minimum"] = found["maximum"] = exact
        if tool == "spending":
            saves = P["put_away"].search(self.message) and found["account"]
            inward = (brings_in(self.message) or saves) and not P["less_refunds"].search(self.message)
            found["direction"] = ["in"] if inward else []
        if "merchant" in wanted:
            categories = self._parts(self.categories())
            certain = categories and not all(P["weak_category"].fullmatch(self.message, *span) for span in categories)
            names = self._named("merchant", 4 if certain else 2 if categories else 1)
            found["merchant"] = self._take(self._with_categories(names, categories))
            if not found["merchant"]:
                found["category"] = self._take(categories or self._after("category_after"))
            if not found["merchant"] and not found["category"]:
                found["merchant"] = self._take(self._after("merchant_after"))
        if "merchant" in wanted and not found["period"]:
            found["period"] = self._unread_period()
        return found

    def regular(self) -> dict[str, list[str]]:
        """Return the names and categories in the order of the message, and the account that money goes to (`to`)."""
        self.periods()
        to = self._take(self._known("own_account")[:1])
        to = to or [match[0] for match in [P["saves"].search(self.rest)] if match]
        categories = self.categories()
        own = self._with_listed(self.own_names("merchant"))
        inside = [one for one in categories if not any(start < one[1] and one[0] < end for start, end in own)]
        return {"merchant": self._take(self._with_listed(sorted(own + inside))), "to": to}

    def periods(self) -> list[str]:
        return self._take(self._periods())

    def _accounts(self, tool: str) -> list[Span]:
        """Find accounts; the ones of a sum or list only where they stand beside each other."""
        found = self._known("account")[:MAX_CALLS]
        apart = (
            number
            for number, (one, other) in enumerate(pairwise(found), start=1)
            if not P["accounts"].fullmatch(self.message[one[1] : other[0]])
        )
        return found if tool == "balance" else found[: next(apart, len(found))]

    def _unread_period(self) -> list[str]:
        """Find words that stand where a period stands and that no rule reads. The customer is asked what they mean."""
        for match in P["unread_period"].finditer(self.rest):
            word = match["after"] or match["named"]
            if not word or word.lower() not in self.ordinary:
                return [match[0]]
        return []

    def categories(self) -> list[Span]:
        """Find words for categories; those that have other meanings too only where a category is likely."""
        known = self._known("category")
        likely = [
            match.span()
            for match in _CATEGORY.finditer(self.rest)
            if P["before_category"].search(self.rest[: match.start()])
            or P["after_category"].match(self.rest[match.end() :])
        ]
        misspelt = [match.span() for match in _WORD.finditer(self.rest) if self._is_category(match[0])]
        known += [one for one in misspelt if not any(one[0] < end and start < one[1] for start, end in known)]
        spans = likely + [one for one in known if not any(one[0] < end and start < one[1] for start, end in likely)]
        return _final(self.message, sorted(spans))

    def _is_category(self, word: str) -> bool:
        """Whether an unknown word is a misspelt category: "salray"."""
        if len(word) < 5 or word.lower() in self.ordinary:
            return False
        found = fitting(word, CATEGORY_NAMES, partial=False)
        return bool(found) and found[0][0] == word[0].lower()

    def _take(self, spans: Sequence[Span]) -> list[str]:
        """Return the values at `spans`, and hide them from the arguments that are read later."""
        for start, end in spans:
            self.rest = self.rest[:start] + "|" * (end - start) + self.rest[end:]
        return [self.message[start:end] for start, end in spans]

    def _known(self, argument: str) -> list[Span]:
        spans = []
        for match in re.finditer(rf"\b(?:{ARGUMENTS[argument].pattern})(?!\w)", self.rest, re.IGNORECASE):
            group = next((number for number in range(1, len(match.groups()) + 1) if match[number]), 0)
            if not P["no_name"].fullmatch(match[group]):
                start, end = match.span(group)
                quoted = self.message[start] in "\"“'‘"
                spans.append((start + quoted, end - quoted))
        return _final(self.message, spans)

    def _runs(self, read: Callable[[str], object], starts: Callable[[re.Match[str]], object]) -> Iterator[Span]:
        """Yield the longest pieces of the message that `read` understands, or refuses with an error."""
        tokens = list(_TOKEN.finditer(self.rest))
        after = 0
        for number, token in enumerate(tokens):
            begin = token.start()
            if begin < after or not starts(token):
                continue
            for end in reversed([token.end() for token in tokens[number : number + LONGEST]]):
                piece = _TRAILING.sub("", self.rest[begin:end])
                try:
                    understood = bool(piece) and "|" not in piece and read(piece) is not None
                except UsageError:
                    understood = True
                if understood and not P["no_period"].search(piece):
                    after = begin + len(piece)
                    yield begin, after
                    break

    def _days(self, *, future: bool) -> list[Span]:
        """Find the day of a transfer, or the day or period at whose end a balance is asked."""

        def read(words: str) -> object:
            return periods.day(words, self.today, future=future) or (not future and periods.period(words, self.today))

        if future and (later := P["later"].search(self.rest)):
            return [later.span()]
        spans = list(self._runs(lambda words: read(words) or None, _starts_period))
        return _final(self.message, [span for span in spans if not P["unit"].fullmatch(self.message[slice(*span)])])

    def _periods(self) -> list[Span]:
        spans: list[Span] = []
        for start, end in self._runs(lambda words: periods.period(words, self.today), _starts_period):
            piece, before, after = (
                self.message[start:end].lower(),
                self.message[:start].lower(),
                self.message[end:].lower(),
            )
            if P["from_day"].fullmatch(piece) or (piece.startswith("from ") and P["dated"].search(before)):
                start += len("from the ") if piece.startswith("from the ") else len("from ")
            if piece == "last week" and re.search(r"\b(?:in|over|within|during) the $", before):
                start -= len("the ")
            more = re.match(r" ?\([^()]+\)", self.message[end:])
            if (
                more
                and not piece.startswith("since ")
                and periods.readable(self.message[start : end + more.end()], self.today)
            ):
                end += more.end()
            if spans and spans[-1][1] > start:
                continue  # inside the bracket of the one before
            modal = piece == "may" and re.match(r" (?:i|we|you|he|she|they|be|have|it)\b", after)
            unit = P["unit"].fullmatch(piece)
            whole = re.search(r"\b(?:the|at|of|over|within|for) (?:the )?(?:whole |entire |full )?$", before)
            if piece.endswith("months") and _MONTH_AFTER.match(after):
                self._take([(start, end)])  # and not the merchant Three
            elif not modal and not (unit and not whole):
                spans.append((start, end))
        for match in P["since"].finditer(self.message):
            start, end = match.start(), match.start() + len(match[0].rstrip())
            day = re.match(r" ?\((?:(?:about|around|say) )?([^()]+?)(?:,? say)?\)", self.message[end:])
            if day and periods.readable(day[1], self.today):  # since the clocks went back (25 Oct)
                end += day.end()
                spans = [span for span in spans if span[1] <= start or end <= span[0]] + [(start, end)]
                continue
            known = next((span[1] for span in spans if span[0] == start), start)
            if known == start or not P["since_ends"].match(self.message[known:end] + "\n"):
                spans = [span for span in spans if not start <= span[0] < end] + [(start, end)]
        named = [match.span() for match in P["named_period"].finditer(self.message)]
        named = [one for one in named if not any(start <= one[0] and one[1] <= end for start, end in spans)]
        spans = [span for span in spans if not any(start < span[1] and span[0] < end for start, end in named)]
        spans = sorted(spans + named)
        asked = [span for span in spans if (ends := _END.search(self.message, span[1])) and ends[0] == "?"]
        found = self._joined(_final(self.message, asked or spans))
        self.context = [self.message[slice(*span)] for span in spans if span not in found]
        return [*found]

    def _joined(self, spans: list[Span]) -> list[Span]:
        """Keep the last of several periods, and those before it that belong to the same list or comparison."""
        for place, (one, other) in enumerate(pairwise(spans)):
            if P["apposition"].fullmatch(self.message[one[1] : other[0]]):  # since payday, which was yesterday
                spans = [*spans[: place + 1], *spans[place + 2 :]]
                break
        if len(spans) == 2 and self._restates(*spans):
            spans = spans[1:]
        for place, since in enumerate(spans):
            if any(self._begins(day, since) for day in spans[place + 1 :]):
                return spans[: place + 1]
        for number in range(len(spans) - 1, 0, -1):
            before, between = self.message[: spans[0][0]], self.message[spans[number - 1][1] : spans[number][0]]
            words = _WORD.findall(before.lower())  # Tesco in May or Tesco in June
            repeated = re.compile(rf"\b(?:{'|'.join(map(re.escape, words))}) ", re.IGNORECASE)
            new = repeated.sub("", between) if words else between
            if not (P["joins"].fullmatch(between) or P["joins"].fullmatch(new)):
                return spans[number:]
        return spans

    def _restates(self, one: Span, other: Span) -> bool:
        """Whether a period says more exactly when the one before it is: "last Christmas, December 2025"."""
        if not P["restated"].fullmatch(self.message[one[1] : other[0]]):
            return False
        if ROUTES["of_year"].fullmatch(self.message[slice(*one)]):
            return True
        try:
            first, days = (periods.period(self.message[slice(*span)], self.today) for span in (one, other))
        except UsageError:
            return False
        begin = first and days and max(first.date_from or date.min, days.date_from or date.min)
        return bool(first and days and first != days and begin and begin <= min(first.date_to, days.date_to))

    def _begins(self, day: Span, since: Span) -> bool:
        """Whether a day only says when the period before it begins: "since Easter", "the 5th of April"."""
        whole = self.message[slice(*since)]
        try:
            first, days = periods.period(self.message[slice(*day)], self.today), periods.period(whole, self.today)
        except UsageError:
            return False
        begins = first and days and first.date_from == first.date_to == days.date_from
        return bool(begins) and whole.lower().startswith("since ")

    def _is_name(self, span: Span) -> bool:
        words = self.message[slice(*span)]
        return words[0].isupper() and bool(fitting(words, self.names, partial=False))

    def _amounts(self) -> list[Span]:
        """Find amounts, but no number that is part of a name: "pay five a side 8"."""
        names = [span for span in self._fitting("payee", partial=False, typos=False) if " " in self.rest[slice(*span)]]
        found = self._runs(amounts.amount, _starts_amount)
        return [one for one in found if not any(start <= one[0] < end for start, end in names)]

    def _bound(self, which: str) -> list[Span]:
        found = self._runs(amounts.amount, _starts_amount)
        return [span for span in found if P[which].search(self.rest[: span[0]])][:1]

    def _named(self, kind: str, least: int) -> list[Span]:
        """Find merchants or payees: a name of the customer's own, or words that are likely names."""
        if own := self.own_names(kind):
            more = [found.span("name") for found in ASKED_TOO.finditer(self.rest)] if kind == "merchant" else []
            more = [(start, end) for start, end in more if not any(start < last and first < end for first, last in own)]
            return self._with_listed(sorted(own + more))[:MAX_CALLS]
        kinds = _WORD.sub(self._kind, self.rest)
        spans: list[Span] = []
        scores: list[int] = []
        for match in _NAME.finditer(kinds):
            start, end = match.span("name") if match["name"] else match.span()
            if len(self.rest[start:end].split()) > LONGEST_NAME or P["trip_after"].match(self.rest[end:]):
                continue
            before, capital = self.rest[: match.start()], kinds[start] == "C"
            score = 2 * bool(P[f"{kind}_link"].search(before)) + bool(P["verb_after"].match(self.rest[end:]))
            score += 2 * (capital and start > 0 and not re.search(r"[.?!] $", before))
            score += self.rest[start:end].split()[0].lower() not in self.ordinary
            if spans and P["listed"].fullmatch(self.rest[spans[-1][1] : start]):
                scores[-1] = score = max(score, scores[-1])
            spans.append((start, end))
            scores.append(score)
        asks = is_follow_up(self.message) or P["names_only"].fullmatch(self.message) or P["asks"].search(self.message)
        if self.names and (len(self.message.split()) > SHORT or not asks):
            least = max(least, 2)  # the customer's own names are known: another word must look like a name
        best = max(max(scores, default=0), least)
        return _final(self.message, [span for score, span in zip(scores, spans, strict=True) if score == best])[
            :MAX_CALLS
        ]

    def own_names(self, kind: str) -> list[Span]:
        """Find the customer's own names: whole ones, else misspelt ones, else parts of one ("Aoife")."""
        return (
            self._fitting(kind, partial=False, typos=False)
            or self._fitting(kind, partial=False, typos=True)
            or self._fitting(kind, partial=True, typos=False)
        )

    def _fitting(self, kind: str, *, partial: bool, typos: bool) -> list[Span]:
        words = [match.span() for match in _WORD.finditer(self.rest)]
        spans: list[Span] = []
        for length in range(4, 0, -1):
            for (start, _), (_, end) in zip(words, words[length - 1 :], strict=False):
                piece = self.rest[start:end]
                if "|" in piece or any(start < last and first < end for first, last in spans):
                    continue
                if (partial or typos) and not self._is_unusual(piece, partial):
                    continue
                found = fitting(piece, self.names, partial=partial, typos=typos)
                if not found or (typos and len(plain(found[0]).split()) != length):
                    continue
                if length > 1 or self._looks_like_name(kind, start, end):
                    spans.append((start, end))
        return _final(self.message, sorted(spans))

    def _is_unusual(self, piece: str, partial: bool) -> bool:
        """Whether words may be misspelt, or a part of a name: their rarest word is not listed."""
        if len(piece) <= 3 or _CATEGORY.fullmatch(piece):
            return False
        telling = [word for word in piece.split() if plain(word) not in WORDS["in_names"]["any"]]
        ranks = [self.ordinary.get(word.lower().rstrip(".'’-"), NEW) for word in telling]
        return max(ranks, default=0) >= (FREQUENT if partial and len(telling) > 1 else NEW)

    def _looks_like_name(self, kind: str, start: int, end: int) -> object:
        """Whether a word is no ordinary one ("three"), or stands where a name stands."""
        word = self.rest[start:end]
        return (
            word.lower() not in self.ordinary
            or P[f"{kind}_link"].search(self.rest[:start])
            or (start and word[0].isupper())
            or P["verb_after"].match(self.rest[end:])
        )

    def _with_categories(self, own: list[Span], categories: list[Span]) -> list[Span]:
        """Add the categories of a list to the customer's own names in it: "Uber, takeaways and Ticketmaster"."""
        sure = [one for one in categories if _SURE_CATEGORY.fullmatch(self.message[slice(*one)])]
        own = [one for one in own if not any(self._is_part(one, of) for of in sure)]
        apart = [one for one in sure if not any(start < one[1] and one[0] < end for start, end in own)]
        spans = self._parts(sorted(own + apart))
        listed = own and all(map(self._is_own, own)) and all(map(self._listed, spans, spans[1:]))
        return spans[:MAX_CALLS] if listed else own

    def _listed(self, one: Span, other: Span) -> bool:
        return P["listed"].fullmatch(self.rest[one[1] : other[0]]) is not None

    def _parts(self, spans: list[Span]) -> list[Span]:
        """Leave out a general category before a list of its parts: "transport in October, gas and Uber"."""
        general = len(spans) > 2 and P["general_category"].fullmatch(self.message[slice(*spans[0])])
        parts = general and not self._listed(*spans[:2]) and all(map(self._listed, spans[1:], spans[2:]))
        return spans[1:] if parts else spans

    def _is_part(self, own: Span, category: Span) -> bool:
        """Whether a part of a name is only a part of a category's: "the council" of "the council tax"."""
        whole = fitting(self.message[slice(*own)], self.names, partial=False)
        return not whole and category[0] < own[1] < category[1]

    def _is_own(self, span: Span) -> bool:
        return bool(fitting(self.message[slice(*span)], self.names))

    def _with_listed(self, own: list[Span]) -> list[Span]:
        """Add names beside the customer's own ones: "costa and pret" for "Costa" and "Pret A Manger"."""
        spans = list(own)
        for match in _WORD.finditer(self.rest):
            start, end = match.span()
            beside = any(P["and"].fullmatch(self.rest[min(last, end) : max(start, first)]) for first, last in own)
            unknown = self._kind(match)[0] in "Cu"
            inside = any(first <= start and end <= last for first, last in own)
            new = unknown and (match[0][0].isupper() or len(match[0]) > SHORT_WORD)
            if beside and not inside and (new or fitting(match[0], self.names, partial=unknown, typos=False)):
                spans.append((start, end))
        return sorted(spans)

    def _kind(self, match: re.Match[str]) -> str:
        word = match[0] if match[0].lower() in _TITLES else match[0].rstrip(".'’-")
        base = re.sub(r"['’]s$", "", word)
        if base.lower() in self.ordinary:
            word = base
        shouted = self.message.isupper()
        known = (
            word.lower() in self.ordinary
            or (word.endswith("in") and f"{word}g".lower() in self.ordinary)  # sittin, goin
            or P["plain_word"].fullmatch(word) is not None
            or ((shouted or word.islower()) and self._is_misspelt(word.lower()))
            or word[0].isdigit()
            or _DATE.fullmatch(word) is not None
            or (len(word) < 3 and word.islower())
        )
        capital = (
            word[0].isupper()
            and not shouted
            and not word.startswith("I'")
            and word not in ("I", "The")
            and (match.start() > 0 or not known)
            and not _DATE.fullmatch(word)
        )
        kind = "C" if capital else "k" if word.lower() in ("of", "the") else "." if known else "u"
        return kind * len(word) + match[0][len(word) :]

    def _is_misspelt(self, word: str) -> bool:
        """Whether an unknown word is a frequent one with two letters exchanged, or with one wrong letter of many."""
        frequent = (other for other, rank in self.ordinary.items() if rank < FREQUENT and other[0] == word[0])
        return len(word) > 3 and any(
            OSA.distance(word, other) == 1 and (len(other) > 6 or sorted(word) == sorted(other)) for other in frequent
        )

    def _after(self, links: str) -> list[Span]:
        """Find the first word after one of the links that is rare enough for a name."""
        for link in P[links].finditer(self.rest):
            word = _WORD.match(self.rest, link.end())
            named = word and not P["no_name"].fullmatch(word[0]) and not P["plain_word"].fullmatch(word[0])
            if word and P["verb_phrase"].match(self.rest, word.end()):
                continue  # "to cover it" says what for
            if word and named and self.ordinary.get(word[0].lower(), FREQUENT) >= FREQUENT:
                return [(word.start(), word.start() + len(word[0].rstrip(".'’-")))]
        return []

    def _question(self) -> str:
        sentences = re.split(r"(?<=[.?!])\s+", self.message)
        asked = [sentence for sentence in sentences if sentence.endswith("?")]
        text = asked[0] if len(asked) == 1 else self.message
        lead = P["lead"].match(text)
        return P["trail"].sub("", text[lead.end() if lead else 0 :]) or self.message


def brings_in(message: str) -> re.Match[str] | None:
    """Find words of money that came in, and not of the day since when: "since my wages came in"."""
    return P["income"].search(PAYDAY.sub(" ", message))


def _starts_amount(token: re.Match[str]) -> object:
    return P["amount_start"].match(token.string, token.start())


def _starts_period(token: re.Match[str]) -> object:
    word = token[0].lower().rstrip(".,;:?!")
    return P["period_start"].match(token.string, token.start()) or periods.corrected(word) != word


def _final(message: str, spans: list[Span]) -> list[Span]:
    """Drop values that the customer takes back: before “no, I mean”, and after “not”."""
    kept = [span for span in spans if not P["taken_back"].search(message[: span[0]])]
    for number in range(len(kept) - 1, 0, -1):
        if P["correction"].search(message[kept[number - 1][1] : kept[number][0]]):
            return kept[number:]
    return kept
