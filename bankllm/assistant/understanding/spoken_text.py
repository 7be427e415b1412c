"""A message while its arguments are read: what one reader takes is hidden from those that read later."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from bankllm.assistant.understanding import patterns
from bankllm.errors import UsageError

Span = tuple[int, int]
"""Start and end of a value in a message."""

LONGEST = 11
"""Words of the longest period or amount that is read."""
P = patterns("patterns")
WORD = re.compile(r"[^\W_][\w'’&.*+-]*")
_TOKEN = re.compile(r"[^\s|(\"'“‘<>≤≥][^\s|]*")
_TRAILING = re.compile(r"(?:['’]s)?[.,;:?!)\"'”…]*$")


class SpokenText:
    def __init__(self, message: str) -> None:
        self.message, self.rest = message, P["have_just"].sub(lambda match: "|" * len(match[0]), message)

    def __getitem__(self, span: Span) -> str:
        return self.message[slice(*span)]

    def is_money(self, span: Span) -> bool:
        """Whether a currency stands before the number: "that £40 payment"."""
        return self.message[: span[0]].rstrip()[-1:] in ("£", "€", "$", "¥")

    def between(self, one: Span, other: Span) -> str:
        return self.message[one[1] : other[0]]

    def take(self, spans: Sequence[Span]) -> list[str]:
        """Return the values at `spans`, and hide them from the arguments that are read later."""
        for start, end in spans:
            self.rest = self.rest[:start] + "|" * (end - start) + self.rest[end:]
        return [self[span] for span in spans]

    def meant(self, spans: Sequence[Span]) -> list[Span]:
        """Drop values that the customer takes back: before “no, I mean”, and after “not”."""
        kept = [span for span in spans if not P["taken_back"].search(self.message[: span[0]])]
        for number in range(len(kept) - 1, 0, -1):
            if P["correction"].search(self.between(*kept[number - 1 : number + 1])):
                return kept[number:]
        return kept

    def found(self, pattern: re.Pattern[str]) -> list[Span]:
        """Find whole words that a pattern matches: its first group, else all of them, without quotation marks."""
        spans = []
        for match in re.finditer(rf"\b(?:{pattern.pattern})(?!\w)", self.rest, re.IGNORECASE):
            group = next((number for number in range(1, len(match.groups()) + 1) if match[number]), 0)
            if not P["no_name"].fullmatch(match[group]):
                start, end = match.span(group)
                quoted = self.message[start] in "\"“'‘"
                spans.append((start + quoted, end - quoted))
        return self.meant(spans)

    def runs(self, read: Callable[[str], object], starts: Callable[[re.Match[str]], object]) -> Iterator[Span]:
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


def apart(spans: Iterable[Span], others: Sequence[Span]) -> list[Span]:
    """Return the spans that overlap none of the others."""
    return [one for one in spans if not any(one[0] < end and start < one[1] for start, end in others)]
