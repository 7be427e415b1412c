"""The grounding check never releases an invented number, however the text is split; all other text is released."""

import contextlib
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.assistant.bank.ledger import CUSTOMERS, Ledger
from bankllm.assistant.wording.grounding import GroundedStream, NotGrounded, grounded_in
from bankllm.assistant.wording.prompts import make_prompt
from bankllm.assistant.wording.template import Facts, TemplateResponder

LISTING = "Everyday: balance £1,204.50\nA refund takes 5 to 10 working days."
is_grounded = grounded_in(LISTING)
TRUE = "Your Everyday balance is £1,204.50. Please wait 5 to 10 working days, or ask us!"


def cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def shown(pieces: list[str]) -> list[str]:
    """The released pieces. After each piece, all text released so far passes the check."""
    checked, released = GroundedStream(is_grounded), []
    for piece in pieces:
        released.append(checked.feed(piece))
        assert is_grounded("".join(released))
        assert "".join(pieces).lstrip().startswith("".join(released))
    return [text for text in [*released, checked.finish()] if text]


def test_words_are_released_immediately_and_numbers_with_their_sentence() -> None:
    text = "Hello, your balance is £1,204.50 now. Please wait."
    expected = ["Hello,", " your", " balance", " is", " £1,204.50 now.", " Please", " wait."]
    assert shown(re.findall(r"\S+\s*", text)) == expected


@given(st.data())
def test_grounded_text_is_released_completely_however_it_is_split(data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(TRUE)), max_size=20)))
    pieces = [TRUE[a:b] for a, b in zip([0, *cuts], [*cuts, len(TRUE)], strict=True)]
    assert "".join(shown(pieces)) == TRUE


INVENTED = [
    "£9,999.00",
    "£1,204.51",
    "€1,204.50",
    "-£1,204.50",
    "10 pounds",
    "ten pounds",
    "5 million",
    "£10",
    "11 days",
]
INVENTED += ["1 204.50 euros", "GB47DEMO10000110000101", "2026-11-18", "18 November", "tomorrow", "£1,204.50k", "10%"]
WORDS = ["Your balance is", "Hello.", "£1,204.50", "5 to 10 working days", "\n", "and", "Thank you.", "pounds", "may"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=6), st.sampled_from(INVENTED), st.integers(1, 7), st.booleans())
def test_invented_number_is_detected_before_any_of_it_is_released(
    words: list[str], invented: str, size: int, more: bool
) -> None:
    text = " ".join([*words, invented, *(["today.", "Thanks."] if more else [])])
    with pytest.raises(NotGrounded):
        shown(cut(text, size))


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet=st.sampled_from("015.,£ \nagdp-…%kGBP"), max_size=40), st.integers(1, 5))
def test_released_text_is_always_grounded(text: str, size: int) -> None:
    with contextlib.suppress(NotGrounded):
        assert "".join(shown(cut(text, size))) == text.strip()


@pytest.mark.parametrize("intent", ["account_balance", "account_details", "recent_transactions"])
@pytest.mark.parametrize("customer", CUSTOMERS)
def test_template_reply_is_grounded_only_in_the_facts_of_its_customer(intent: str, customer: str) -> None:
    def facts(of: str) -> Facts:
        ledger = Ledger()
        return Facts(message="…", intent=intent, accounts=ledger.accounts(of), transactions=ledger.transactions(of))

    check = grounded_in(make_prompt(facts(customer), remote=False).listing)
    assert check(TemplateResponder().respond(facts(customer)).text)
    other = CUSTOMERS[(CUSTOMERS.index(customer) + 1) % len(CUSTOMERS)]
    assert not check(TemplateResponder().respond(facts(other)).text)


def test_check_is_fast_for_adversarial_texts() -> None:
    slow = ["1 " * 2000, "one hundred and " * 500, "A" * 4000, "." * 4000, "1,1" * 1500, " " * 4000 + "x", "a@" * 2000]
    for text in slow:
        started = time.process_time()
        is_grounded(text)
        assert time.process_time() - started < 5, text[:20]


def test_each_article_is_grounded_in_its_own_listing() -> None:
    for intent, article in load_knowledge().items():
        assert grounded_in(make_prompt(Facts("…", intent, article), remote=True).listing)(article.answer), intent
