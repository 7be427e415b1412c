"""An invented figure never leaves the guard, however the text is cut into pieces; true ones and plain words do."""

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
    """What comes out, piece by piece. Whatever is out by then passes the check, also where the guard then stops."""
    held, out = GroundedStream(is_grounded), []
    for piece in pieces:
        out.append(held.feed(piece))
        assert is_grounded("".join(out))
        assert "".join(pieces).lstrip().startswith("".join(out))
    return [text for text in [*out, held.finish()] if text]


def test_words_come_at_once_and_a_sentence_with_a_figure_when_it_is_complete() -> None:
    text = "Hello, your balance is £1,204.50 now. Please wait."
    expected = ["Hello,", " your", " balance", " is", " £1,204.50 now.", " Please", " wait."]
    assert shown(re.findall(r"\S+\s*", text)) == expected


@given(st.data())
def test_a_true_text_comes_whole_however_it_is_cut(data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(TRUE)), max_size=20)))
    pieces = [TRUE[a:b] for a, b in zip([0, *cuts], [*cuts, len(TRUE)], strict=True)]
    assert "".join(shown(pieces)) == TRUE


LIES = ["£9,999.00", "£1,204.51", "€1,204.50", "-£1,204.50", "10 pounds", "ten pounds", "5 million", "£10", "11 days"]
LIES += ["1 204.50 euros", "GB47DEMO10000110000101", "2026-11-18", "18 November", "tomorrow", "£1,204.50k", "10%"]
WORDS = ["Your balance is", "Hello.", "£1,204.50", "5 to 10 working days", "\n", "and", "Thank you.", "pounds", "may"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=6), st.sampled_from(LIES), st.integers(1, 7), st.booleans())
def test_a_lie_is_found_before_any_of_it_is_shown(words: list[str], lie: str, size: int, more: bool) -> None:
    text = " ".join([*words, lie, *(["today.", "Thanks."] if more else [])])
    with pytest.raises(NotGrounded):
        shown(cut(text, size))


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet=st.sampled_from("015.,£ \nagdp-…%kGBP"), max_size=40), st.integers(1, 5))
def test_what_is_out_is_always_grounded(text: str, size: int) -> None:
    with contextlib.suppress(NotGrounded):
        assert "".join(shown(cut(text, size))) == text.strip()


@pytest.mark.parametrize("intent", ["account_balance", "account_details", "recent_transactions"])
@pytest.mark.parametrize("customer", CUSTOMERS)
def test_what_the_template_says_is_grounded_and_another_customers_is_not(intent: str, customer: str) -> None:
    def facts(of: str) -> Facts:
        ledger = Ledger()
        return Facts(message="…", intent=intent, accounts=ledger.accounts(of), transactions=ledger.transactions(of))

    check = grounded_in(make_prompt(facts(customer), remote=False).listing)
    assert check(TemplateResponder().respond(facts(customer)).text)
    other = CUSTOMERS[(CUSTOMERS.index(customer) + 1) % len(CUSTOMERS)]
    assert not check(TemplateResponder().respond(facts(other)).text)


def test_checking_is_quick_even_for_a_text_made_to_be_slow() -> None:
    slow = ["1 " * 2000, "one hundred and " * 500, "A" * 4000, "." * 4000, "1,1" * 1500, " " * 4000 + "x", "a@" * 2000]
    for text in slow:
        began = time.process_time()
        is_grounded(text)
        assert time.process_time() - began < 5, text[:20]


def test_each_article_may_be_said_as_it_stands() -> None:
    for intent, article in load_knowledge().items():
        assert grounded_in(make_prompt(Facts("…", intent, article), remote=True).listing)(article.answer), intent
