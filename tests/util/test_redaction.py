"""Account numbers are masked in all usual notations, and other numbers stay unchanged.

The error rates are measured on generated texts of each kind. The generators are seeded, so every run is equal.
"""

import random
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import iban, luhn

from bankllm.util.redaction import COMPATIBILITY_DIGIT, DIGIT, mask

COUNTS = [400, pytest.param(10_000, marks=pytest.mark.slow)]
"""Generated texts of each kind: a quick sample, and the sample that the error rates are measured on."""


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("card:4111-1111-1111-1111!", "card:[card …1111]!"),
        ("4111 1111 1111 1111 12 29", "[card …1111] 12 29"),
        ("4111, 1111, 1111, 1111", "[card …1111]"),
        ("S.S.N. 359134291", "S.S.N. [SSN …4291]"),
        ("536-22-1234 12/29", "[SSN …1234] 12/29"),
        ("send it to GB82 WEST 1234 5698 7654 32 please", "send it to [IBAN …5432] please"),
        ("to gb82west12345698765432", "to [IBAN …5432]"),
        ("DE89370400440532013000 or DE89 3704 0044 0532 0130 00 now", "[IBAN …3000] or [IBAN …3000] now"),
        ("IBAN BE68539007547034", "IBAN [IBAN …7034]"),  # a bank code that no list of allocated codes has
        ("card 4111&nbsp;1111&nbsp;1111&nbsp;1111 ok", "card [card …1111] ok"),
        ("card 4111%201111%201111%201111", "card [card …1111]"),
        ("DE89<br>3704 0044 0532 0130 00", "[IBAN …3000]"),
        ("it's 4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 ok", "it's [card …1111] ok"),
        ("my social is 344907075", "my social is [SSN …7075]"),
        ("SS# 101845255", "SS# [SSN …5255]"),
        ("soc. sec. 344907075", "soc. sec. [SSN …7075]"),
        ("seguro social: 344907075", "seguro social: [SSN …7075]"),
        ("ssn 3 4 4 9 0 7 0 7 5", "ssn [SSN …7075]"),
        ("ref 17 4111 1111 1111 1111 123", "ref 17 [card …1111] 123"),
        ("4111 1111 1111 1111\n5500 0055 5555 5559", "[card …1111]\n[card …5559]"),
        ("4111 1111\r\n1111 1111", "[card …1111]"),
        ("no.4111111111111111 or card4111111111111111x", "no.[card …1111] or card[card …1111]x"),
        ("4111\u00a01111.1111/1111", "[card …1111]"),
        ("4111  1111 – 1111\u200b\u200b\u200b\u200b1111", "[card …1111]"),
        ("４１１１　１１１１　１１１１　１１１１", "[card …1111]"),
        ("بطاقتي ٤١١١ ١١١١ ١١١١ ١١١١ ضاعت", "بطاقتي [card …1111] ضاعت"),
        ("4️⃣1️⃣1️⃣1️⃣ 1111 1111 1111", "[card …1111]"),
        ("½ of ﬁve on 4111 1111 1111 1111…", "½ of ﬁve on [card …1111]…"),
        ("41 11 11 11 11 11 11 11 12/29", "[card …1111] 12/29"),
        ("48 6304986666360", "48 [card …6360]"),
        ("4111 2013 13 14 1113", "[card …1113]"),  # there is no month 13
        ("card: 7 41 11 11 11 11 11 11 11", "card: 7 [card …1111]"),
        ("GB82\u00a0WEST\u00a01234\u00a05698\u00a07654\u00a032 12 please", "[IBAN …5432] 12 please"),
        ("DE89.3704.0044.0532.0130.00please", "[IBAN …3000]please"),
        ("ibande89370400440532013000 4111111111111111", "iban[IBAN …3000] [card …1111]"),
        ("ＤＥ８９ 3704 0044 0532 0130 00", "[IBAN …3000]"),
        ("536 22 1234", "[SSN …1234]"),
        ("my social security number is 536221234, thanks", "my social security number is [SSN …1234], thanks"),
    ],
)
def test_an_account_number_is_masked(text, masked):
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "order 4111 1111 1111 1112",  # the check digit is wrong
        "GB82 WEST 1234 5698 7654 33",
        "I paid 1,234.56 on 2026-11-23 at 10:15",
        "call 020 7946 0958 or +44 20 7946 0958",
        "my balance is 12345678",
        "000-12-3456",  # no such area
        "phone 123 45 6789",
        "I paid 120 50 1300",
        "my social media id 344907075",
        "reference 536221234",
        "30-00-05 12345678",
        "call +44162 262754 89",  # a valid card number, but for the plus
        "501882 2589484 0",  # 13 digits in groups that no card has
        "3 5174 5020 7071 9995 9",  # the end of a longer number in groups of four
        "415 555 0132, 628 555 0199",
        "23/11/2026 - 24/12/2026",
        "from 24112026-25122026, 10:15:30",
        "order no 1234 5678 9012 35",
        "🙂 مرحبا",
        "",
    ],
)
def test_other_text_is_unchanged(text):
    assert mask(text) == text


def test_every_character_that_normalises_to_a_digit_is_searched() -> None:
    missing = [
        hex(code)
        for code in range(sys.maxunicode + 1)
        if any(map(str.isdecimal, unicodedata.normalize("NFKC", chr(code))))
        and not (DIGIT.match(chr(code)) or COMPATIBILITY_DIGIT.match(chr(code)))
    ]
    assert missing == []


@given(st.text(max_size=200))
def test_masking_any_text_is_idempotent(text):
    assert mask(mask(text)) == mask(text)


PIECES = [
    "4111 1111 1111 1111",
    "5500005555555559",
    "GB82 WEST 1234 5698 7654 32",
    "536-22-1234",
    "[card …",
    "SSN",
    "DE",
]
ALPHABET = "0123456789０１４٤١ \t\n\u00a0-.–/,:+[]…\u200b\ufe0faDEns"


@settings(max_examples=200)
@given(st.lists(st.sampled_from(PIECES) | st.text(ALPHABET, max_size=30), max_size=12).map("".join))
def test_masking_numbers_and_separators_is_idempotent(text):
    assert mask(mask(text)) == mask(text)


@given(st.text(st.characters(exclude_categories=["Nd", "No", "Nl"], exclude_characters="[]"), max_size=100))
def test_a_text_without_digits_is_unchanged(text):
    assert mask(text) == text


def digits(generator: random.Random, count: int) -> str:
    return "".join(generator.choices("0123456789", k=count))


def grouped(text: str, sizes: Sequence[int], separator: Callable[[], str]) -> str:
    """The text split into groups of these sizes, joined by separators. The remaining characters are the last group."""
    groups = []
    for size in sizes:
        groups.append(text[:size])
        text = text[size:]
    groups = [group for group in [*groups, text] if group]
    return "".join([*(group + separator() for group in groups[:-1]), groups[-1]])


DATES = ["%Y-%m-%d", "%d/%m/%Y", "%-m/%-d/%y", "%-d.%-m.%Y", "%d %m %Y", "%Y%m%d", "%d%m%Y", "%-d November %Y", "%m/%y"]
TIMES = [" %H:%M", " %H.%M", "T%H:%M:%SZ", " %H:%M:%S.%f", ""]


def date(generator: random.Random) -> str:
    moment = datetime(1940, 1, 1) + timedelta(seconds=generator.randrange(120 * 365 * 86_400))
    one = moment.strftime(generator.choice(DATES))
    if generator.random() < 0.2:
        return one + generator.choice([" - ", ", ", " / "]) + date(generator)
    return one + moment.strftime(generator.choice(TIMES))


def any_number(generator: random.Random) -> str:
    """6 to 19 random digits in groups of various sizes."""
    count = generator.randint(6, 19)
    low, high = generator.choice([(19, 19), (19, 19), (4, 4), (3, 3), (2, 2), (1, 1), (1, 6), (2, 5), (3, 8)])
    sizes = [generator.randint(low, high) for _ in range(count)]
    separators = generator.choice([[" "], ["-"], ["."], ["/"], ["\u00a0"], [" ", "-", ".", "/", "  ", " - "]])
    return grouped(digits(generator, count), sizes, lambda: generator.choice(separators))


def reference(generator: random.Random) -> str:
    letters = "".join(generator.choices("ABCDEFGHJKLMNPRSTUVWXYZ", k=generator.randint(1, 4)))
    number = any_number(generator)
    before = generator.choice(["", "", "#", "no. ", letters, f"{letters}-", f"{letters} "])
    return before + number


PHONES = [
    *("020 #### ####", "0161 ### ####", "07### ######", "+44 20 #### ####", "+44 (0)7### ######", "0044 7### ######"),
    *("+447#########", "(###) ###-####", "###-###-####", "+1 ### ### ####", "1-800-###-####", "###.###.#### x####"),
    *("+49 30 ########", "+49 151 ########", "+49 1512 #######", "0049 1512 #######", "+33 6 ## ## ## ##"),
    *("06 ## ## ## ##", "+39 3## #######", "+91 ##### #####", "+86 1## #### ####", "+81 90-####-####", "+4915########"),
    *("+41 44 ### ## ##", "+43 664 ########", "+353 85 ### ####", "+55 11 9####-####", "00 46 70 ### ## ##"),
]


def phone(generator: random.Random) -> str:
    one = re.sub("#", lambda _: str(generator.randrange(10)), generator.choice(PHONES))
    return f"{one}{generator.choice([', ', ' / ', ' or '])}{phone(generator)}" if generator.random() < 0.2 else one


HARMLESS = {
    "dates": (date, ["on {}", "between {} and then", "due {}.", "{}", "born {}, London"]),
    "references": (reference, ["my order number is {}", "ref {} please", "{}", "payment ({}) is missing", "case:{}!"]),
    "phone numbers": (phone, ["call {}", "{}", "my number is {}.", "tel:{} after 10:15", "ring me on {} at 17:30"]),
}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", HARMLESS)
def test_at_most_one_percent_of_other_numbers_is_masked(kind, count):
    made, sentences = HARMLESS[kind]
    generator = random.Random(kind)
    texts = [generator.choice(sentences).format(made(generator)) for _ in range(count)]
    assert len(set(texts)) > 0.8 * count
    masked = [text for text in texts if mask(text) != text]
    assert len(masked) <= 0.01 * count, (len(masked), masked[:20])


ISSUED = [  # prefixes, length, the groups on the card
    (["4"], 16, [4, 4, 4]),
    ([str(prefix) for prefix in (*range(51, 56), *range(2221, 2721, 7))], 16, [4, 4, 4]),
    (["34", "37"], 15, [4, 6]),
    (["6011", "644", "649", "65"], 16, [4, 4, 4]),
    (["300", "305", "36", "38", "39"], 14, [4, 6]),
    (["3528", "3589", "3540"], 16, [4, 4, 4]),
    (["62"], 16, [4, 4, 4]),
    (["62"], 19, [6]),
    (["4"], 13, [4, 4, 4]),
    (["4"], 19, [4, 4, 4, 4]),
    (["6759", "5018", "6763"], 16, [4, 4, 4]),
    (["6304"], 19, [4, 4, 4, 4]),
]
WEIGHTS = [40, 25, 8, 5, 4, 4, 3, 1, 2, 1, 4, 1]
SEPARATORS = [*" -\u00a0./–\u2011\u200b\u202f\n\t_·", "  ", "\r\n", " - "]
SCRIPTS = ["0", "0", "0", "0", "０", "٠", "۰", "०", "𝟎"]
EXTRAS = ["12/29", "12 29", "12/2029", "123", "1234", "12/29 123", "cvv 123", "12 29 987", "exp 01/30", "(0330)"]
BEFORE = ["", "my card ", "card:", "no.", "17 ", "ref 17 ", '"', "pay £20 with ", "12/29 ", "x", "number\n", "😀"]
AFTER = ["", " now", "!", '"', ", thanks", " was declined", "x", ".", " please, by 10:15", " 4 times"]


def card_number(generator: random.Random) -> tuple[str, list[int]]:
    prefixes, length, sizes = generator.choices(ISSUED, WEIGHTS)[0]
    start = generator.choice(prefixes)
    payload = start + digits(generator, length - 1 - len(start))
    return payload + luhn.calc_check_digit(payload), sizes


def formatted(generator: random.Random, number: str, sizes: list[int]) -> str:
    """The number in one of the usual notations."""
    form = generator.random()
    if form < 0.25:
        sizes = []
    elif form > 0.9 and len(number) > 13:
        # 14 digits in groups of 6 and 8 are a sort code with an account number, which is not masked.
        sizes = [generator.choice([4, 5, 8] if len(number) == 14 else [4, 5, 6, 8]) for _ in range(3)]
    one, mixed = generator.choice(SEPARATORS), generator.random() < 0.3

    def separator() -> str:
        if not mixed:
            return one
        return "".join(generator.choices([" ", "-", ".", "/", "\u00a0", "–", "\u200b"], k=generator.randint(1, 3)))

    zero = ord(generator.choice(SCRIPTS))
    return "".join(chr(zero + int(c)) if c.isascii() and c.isdigit() else c for c in grouped(number, sizes, separator))


def digit_groups(text: str) -> Counter[str]:
    return Counter(re.findall("[0-9]+", unicodedata.normalize("NFKC", "".join(map(plain, text)))))


def plain(character: str) -> str:
    return str(unicodedata.decimal(character)) if character.isdecimal() else character


def leaks(masked: str, numbers: Sequence[str], context: str) -> bool:
    """Whether a mask is missing, or digits remain that are not part of the text around the numbers."""
    shown = re.findall(r"\[\w+ …(\w{4})\]", masked)
    left = re.sub(r"\[\w+ …\w{4}\]", "\0", masked)
    return not set(shown) >= {number[-4:] for number in numbers} or not digit_groups(left) <= digit_groups(context)


@pytest.mark.parametrize("count", COUNTS)
def test_at_least_99_5_percent_of_card_numbers_are_masked_as_a_whole(count):
    """A 19-digit card whose first 16 digits are also a valid card counts as missed."""
    generator = random.Random("cards")
    missed = []
    for _ in range(count):
        before, after = generator.choice(BEFORE), generator.choice(AFTER)
        extra = " " + generator.choice(EXTRAS) if generator.random() < 0.4 else ""
        numbers, parts = [], []
        for _ in range(generator.choice([1, 1, 1, 1, 2, 3])):
            number, sizes = card_number(generator)
            numbers.append(number)
            parts.append(formatted(generator, number, sizes))
        text = before + generator.choice([" and ", "\n", ", ", "; "]).join(parts) + extra + after
        if leaks(mask(text), numbers, f"{before}\0{extra}\0{after}"):
            missed.append((text, mask(text)))
    assert len(missed) <= 0.005 * count, (len(missed), missed[:20])


STRUCTURES = [
    *(("GB", "aaaa" + 14 * "n"), ("DE", 18 * "n"), ("FR", 20 * "n" + "a" + 2 * "n"), ("NL", "aaaa" + 10 * "n")),
    *(("IT", "a" + 22 * "n"), ("CH", 17 * "n"), ("PL", 24 * "n"), ("IE", "aaaa" + 14 * "n"), ("AT", 16 * "n")),
]


def iban_number(generator: random.Random) -> str:
    country, structure = generator.choice(STRUCTURES)
    letters = {"a": "ABCDEFGHIKLMNOPRSTUW", "n": "0123456789"}
    bban = "".join(generator.choice(letters[kind]) for kind in structure)
    return country + iban.calc_check_digits(f"{country}00{bban}") + bban


@pytest.mark.parametrize("count", COUNTS)
def test_ibans_are_masked_in_every_notation(count):
    generator = random.Random("ibans")
    missed = []
    for _ in range(count):
        number = iban_number(generator)
        one = generator.choice(SEPARATORS)
        text = grouped(number, generator.choice([[], [4] * 9, [2, 2] + [4] * 9]), lambda: one)  # noqa: B023
        text = text.lower() if generator.random() < 0.3 and text[2].isdigit() else text
        before, after = generator.choice(["", "to ", "IBAN:", "iban "]), generator.choice(["", " please", " 12", "."])
        if leaks(mask(before + text + after), [number], before + after):
            missed.append((before + text + after, mask(before + text + after)))
    assert len(missed) <= 0.005 * count, (len(missed), missed[:20])


def test_social_security_numbers_are_masked_if_separated_or_labelled():
    generator = random.Random("ssn")
    for _ in range(500):
        number = f"{generator.randint(1, 665):03}{generator.randint(1, 99):02}{generator.randint(1, 9999):04}"
        one = generator.choice(SEPARATORS)
        text = grouped(number, [3, 2], lambda: one)  # noqa: B023
        assert mask(f"it is {text}, thanks") == f"it is [SSN …{number[-4:]}], thanks", text
        assert mask(f"SSN {number}") == f"SSN [SSN …{number[-4:]}]"
        assert mask(f"reference {number}") == f"reference {number}"
