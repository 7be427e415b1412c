"""Find the days and periods that a message asks about, as the words that `periods` reads."""

import re
from collections.abc import Mapping
from datetime import date
from itertools import pairwise

from bankllm.assistant.understanding import calendar_words, patterns, periods
from bankllm.assistant.understanding.calendar_units import DayRange
from bankllm.assistant.understanding.spoken_text import WORD, P, Span, SpokenText, apart
from bankllm.errors import UsageError

R = patterns("routes")
_END = re.compile(r"[.?!](?=\s|$)")
_MONTH_AFTER = re.compile(rf"[ ,:(]+(?:{calendar_words.MONTH})\b")
"""What follows "the three months" that are named after it."""


def days_in(text: SpokenText, today: date, *, future: bool) -> list[Span]:
    """Find the day of a transfer, or the day or period at whose end a balance is asked."""
    if future and (later := P["later"].search(text.rest)):
        return [later.span()]

    def read(words: str) -> object:
        return periods.day(words, today, future=future) or (not future and periods.period(words, today)) or None

    return text.meant([span for span in text.runs(read, _starts) if not P["unit"].fullmatch(text[span])])


def periods_in(text: SpokenText, today: date) -> tuple[list[Span], list[Span]]:
    """Find the periods that a message asks about, and others that it only names."""
    spans = _read(text, today)
    for match in P["since"].finditer(text.message):
        start, end = match.start(), match.start() + len(match[0].rstrip())
        day = re.match(r" ?\((?:(?:about|around|say) )?([^()]+?)(?:,? say)?\)", text.message[end:])
        if day and periods.readable(day[1], today):  # since the clocks went back (25 Oct)
            end += day.end()
            spans = [span for span in spans if span[1] <= start or end <= span[0]] + [(start, end)]
            continue
        known = next((span[1] for span in spans if span[0] == start), start)
        if known == start or not P["since_ends"].match(text.message[known:end] + "\n"):
            spans = [span for span in spans if not start <= span[0] < end] + [(start, end)]
    named = [match.span() for match in P["named_period"].finditer(text.message)]
    named = [one for one in named if not any(start <= one[0] and one[1] <= end for start, end in spans)]
    spans = sorted(apart(spans, named) + named)
    asked = [span for span in spans if (ends := _END.search(text.message, span[1])) and ends[0] == "?"]
    found = _joined(text, text.meant(asked or spans), today)
    return found, [span for span in spans if span not in found]


def unread_period(text: SpokenText, ordinary: Mapping[str, int]) -> list[str]:
    """Find words that stand where a period stands and that no rule reads. The customer is asked what they mean."""
    for match in P["unread_period"].finditer(text.rest):
        word = match["after"] or match["named"]
        if not word or word.lower() not in ordinary:
            return [match[0]]
    return []


def _starts(token: re.Match[str]) -> object:
    word = token[0].lower().rstrip(".,;:?!")
    return P["period_start"].match(token.string, token.start()) or calendar_words.corrected(word) != word


def _read(text: SpokenText, today: date) -> list[Span]:
    """Find the longest words that are a period, without those that have another meaning in the sentence."""
    spans: list[Span] = []
    for start, end in text.runs(lambda words: periods.period(words, today), _starts):
        piece, before, after = (part.lower() for part in (text[start, end], text.message[:start], text.message[end:]))
        if P["from_day"].fullmatch(piece) or (piece.startswith("from ") and P["dated"].search(before)):
            start += len("from the ") if piece.startswith("from the ") else len("from ")
        if piece in ("last week", "last year") and re.search(r"\b(?:in|over|within|during) the $", before):
            start -= len("the ")
        more = re.match(r" ?\([^()]+\)", text.message[end:])
        if more and not piece.startswith("since ") and periods.readable(text[start, end + more.end()], today):
            end += more.end()
        if spans and spans[-1][1] > start:
            continue  # inside the bracket of the one before
        modal = piece == "may" and re.match(r" (?:i|we|you|he|she|they|be|have|it)\b", after)
        whole = re.search(r"\b(?:the|at|of|over|within|for) (?:the )?(?:whole |entire |full )?$", before)
        if piece.endswith("months") and _MONTH_AFTER.match(after):
            text.take([(start, end)])  # and not the merchant Three
        elif not modal and (whole or not P["unit"].fullmatch(piece)):
            spans.append((start, end))
    return spans


def _joined(text: SpokenText, spans: list[Span], today: date) -> list[Span]:
    """Keep the last of several periods, and those before it that belong to the same list or comparison."""
    for place, (one, other) in enumerate(pairwise(spans)):
        if P["apposition"].fullmatch(text.between(one, other)):  # since payday, which was yesterday
            spans = [*spans[: place + 1], *spans[place + 2 :]]
            break
    if len(spans) == 2 and _restates(text, spans[0], spans[1], today):
        spans = spans[1:]
    for place, since in enumerate(spans):
        if text[since].lower().startswith("since ") and any(
            _begins(text[day], text[since], today) for day in spans[place + 1 :]
        ):
            return spans[: place + 1]
    for number in range(len(spans) - 1, 0, -1):
        before, between = text.message[: spans[0][0]], text.between(*spans[number - 1 : number + 1])
        words = WORD.findall(before.lower())  # Tesco in May or Tesco in June
        repeated = re.compile(rf"\b(?:{'|'.join(map(re.escape, words))}) ", re.IGNORECASE)
        new = repeated.sub("", between) if words else between
        if not (P["joins"].fullmatch(between) or P["joins"].fullmatch(new)):
            return spans[number:]
    return spans


def _restates(text: SpokenText, one: Span, other: Span, today: date) -> bool:
    """Whether a period says more exactly when the one before it is: "last Christmas, December 2025"."""
    if not P["restated"].fullmatch(text.between(one, other)):
        return False
    if R["of_year"].fullmatch(text[one]) or (R["of_month"].search(text[one]) and R["days_only"].fullmatch(text[other])):
        return True
    first, days = (_days(text[span], today) for span in (one, other))
    begin = first and days and max(first.date_from or date.min, days.date_from or date.min)
    return bool(first and days and first != days and begin and begin <= min(first.date_to, days.date_to))


def _begins(day: str, since: str, today: date) -> bool:
    """Whether a day only says when the period before it begins: "since Easter", "the 5th of April"."""
    first, days = _days(day, today), _days(since, today)
    return bool(first and days and first.date_from == first.date_to == days.date_from)


def _days(words: str, today: date) -> DayRange | None:
    try:
        return periods.period(words, today)
    except UsageError:
        return None
