"""The grounding check never releases an invented number, however the text is split; all other text is released."""

import contextlib
import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bankllm.assistant.bank.backends.demo_bank import CUSTOMERS
from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.assistant.bank.ledger import open_bank
from bankllm.assistant.facts import TOOLS, Facts, ReadyCall, Request
from bankllm.assistant.wording.grounding import NotGrounded, grounded
from bankllm.util.figures import find_figures, known_figures

REFUND = "About “Refunds”: A refund takes 5 to 10 working days."
LISTING = f"Everyday: balance £1,204.50\n{REFUND}"
TRUE = "Your Everyday balance is £1,204.50. Please wait 5 to 10 working days, or ask us! Bye."


def cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def is_grounded(text: str, listing: str) -> bool:
    return find_figures(text) <= known_figures(listing)


def shown(pieces: list[str], listing: str = LISTING) -> list[str]:
    """The released pieces. After each piece, all text released so far passes the check."""
    released: list[str] = []
    for text in grounded(pieces, listing):
        released.append(text)
        assert is_grounded("".join(released), listing)
        assert "".join(pieces).lstrip().startswith("".join(released))
    assert "" not in released
    return released


def test_each_word_is_released_as_soon_as_the_next_one_is_complete() -> None:
    pieces, taken = iter(re.findall(r"\S+\s*", "Hello. Your balance is £1,204.50 now. Please wait.")), []
    released = grounded((taken.append(piece) or piece for piece in pieces), LISTING)
    assert (next(released), taken[-1]) == ("Hello.", "Hello. ")
    assert [(next(released), taken[-1]) for _ in range(3)] == [
        (" Your", "balance "),
        (" balance", "is "),
        (" is", "£1,204.50 "),
    ]
    assert (next(released), taken[-1]) == (" £1,204.50 now.", "now. ")
    assert list(released) == [" Please wait."]


def test_what_only_the_rest_of_a_sentence_makes_right_waits_for_it() -> None:
    listing = "Everyday: balance £50.00\nSavings: balance £120.00"
    *words, rest = grounded(cut("Everyday and Savings have £50.00 and £120.00 now. Bye.", 1), listing)
    assert "".join(words) == "Everyday and Savings have £50.00 and £120.00 now."
    assert " have £50.00 and" in words, "£50.00 alone would be of Savings"
    assert rest == " Bye."


def test_a_mask_is_one_word() -> None:
    released = list(grounded(cut("It is [IBAN …0101] and so on.", 1), "IBAN […0101]"))
    assert released[:3] == ["It", " is", " [IBAN …0101]"]


@given(st.data())
def test_grounded_text_is_released_completely_however_it_is_split(data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(TRUE)), max_size=20)))
    pieces = [TRUE[a:b] for a, b in zip([0, *cuts], [*cuts, len(TRUE)], strict=True)]
    assert "".join(shown(pieces)) == TRUE


@pytest.mark.parametrize("size", [3, 400])
@pytest.mark.parametrize(
    ("reply", "released"),
    [
        ("Hello. We will refund you today. Everyday has £1,204.50.", "Hello. We"),
        ("Everyday does not have £1,204.50.", "Everyday"),
        ("Hello. Your refund is on its way.", "Hello. Your refund is on"),  # the balance is left out
    ],
)
def test_promise_denial_and_omission_are_refused(reply: str, released: str, size: int) -> None:
    seen: list[str] = []
    with pytest.raises(NotGrounded):
        seen += grounded(cut(reply, size), LISTING)
    assert released.startswith("".join(seen))


INVENTED = [
    *("£9,999.00", "£1,204.51", "€1,204.50", "-£1,204.50", "10 pounds", "ten pounds", "5 million", "£10", "11 days"),
    *("1 204.50 euros", "GB47DEMO10000110000101", "2026-11-18", "18 November", "tomorrow", "£1,204.50k", "10%"),
]
WORDS = ["Your balance is", "Hello.", "£1,204.50", "5 to 10 working days", "\n", "and", "Thank you.", "pounds", "may"]


@given(st.lists(st.sampled_from(WORDS), max_size=6), st.sampled_from(INVENTED), st.integers(1, 7), st.booleans())
def test_invented_number_is_detected_before_any_of_it_is_released(
    words: list[str], invented: str, size: int, more: bool
) -> None:
    text = " ".join([*words, invented, *(["today.", "Thanks."] if more else [])])
    with pytest.raises(NotGrounded):
        shown(cut(text, size))


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from("015.,£ \nagdp-…%kGBP"), max_size=40), st.integers(1, 5))
def test_released_text_is_always_grounded(text: str, size: int) -> None:
    with contextlib.suppress(NotGrounded):
        assert "".join(shown(cut(text, size), REFUND)) == text.strip()


def look_up(tool: str, customer: str, **arguments: str) -> Facts:
    return TOOLS.get(tool)(Request("…", customer, ReadyCall(tool, arguments)), open_bank())


@pytest.mark.parametrize("tool", ["balance", "transactions", "standing_orders", "card_status"])
def test_text_of_the_facts_is_grounded_only_in_the_facts_of_its_customer(tool: str) -> None:
    for customer, other in itertools.pairwise((*CUSTOMERS, CUSTOMERS[0])):
        listing = "\n".join(look_up(tool, customer).lines)
        assert is_grounded(look_up(tool, customer).text, listing)
        assert not is_grounded(look_up(tool, other).text, listing)


@pytest.mark.timeout(20)  # a regular expression with exponential backtracking would not finish
@pytest.mark.parametrize(
    "text", ["1 " * 2000, "one hundred and " * 500, "A" * 4000, "." * 4000, "1,1" * 1500, " " * 4000 + "x", "a@" * 2000]
)
def test_check_is_fast_for_adversarial_texts(text: str) -> None:
    with contextlib.suppress(NotGrounded):
        shown(cut(text, 400))


def test_each_article_is_grounded_in_its_own_listing() -> None:
    for id_ in load_knowledge():
        facts = look_up("knowledge", "CUST001", article=id_)
        assert is_grounded(facts.text, "\n".join(facts.lines)), id_
