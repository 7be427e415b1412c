"""Every intent has a tool, and the tools without the ledger answer with articles."""

from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.assistant.bank.ledger import open_bank
from bankllm.assistant.decision import SMALL_TALK
from bankllm.assistant.facts import TOOLS, Facts, ReadyCall, Request, tool_of
from bankllm.datasets.teller77 import ASSISTANT_INTENTS, banking77_labels
from bankllm.vectors.rows import Match

EARLIER = Match("m1", 0.9, "My {card} is late", {"intent": "card_arrival"}, "2026-11-01T00:00:00+00:00")
LATE = load_knowledge()["card_arrival"].answer


def look_up(intent: str, earlier: Match | None = None) -> Facts:
    call = ReadyCall(tool_of(intent), {"article": intent})
    return TOOLS.get(call.tool)(Request("…", "CUST001", call, intent, earlier), open_bank())


def test_every_intent_of_the_assistant_has_a_tool() -> None:
    articles = {intent for intent in (*banking77_labels(), *ASSISTANT_INTENTS) if tool_of(intent) == "knowledge"}
    assert articles == {*banking77_labels(), "out_of_scope"}
    assert articles <= load_knowledge().keys()
    assert set(ASSISTANT_INTENTS) > SMALL_TALK


def test_an_article_names_an_earlier_message() -> None:
    plain = look_up("card_arrival")
    assert (plain.text, plain.sources) == (LATE, ("knowledge:card_arrival",))
    again = look_up("card_arrival", earlier=EARLIER)
    assert again.text.startswith(f"{LATE} You asked about this before")
    assert again.sources == ("knowledge:card_arrival", "memory:m1")
    assert again.lines == plain.lines, "the customer's own words are no facts"
    found = look_up("human_agent", earlier=EARLIER)
    assert found.text.endswith("I will pass on what you wrote before: “My {card} is late”.")
    assert found.sources == ("knowledge:human_agent", "memory:m1")
