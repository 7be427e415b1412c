"""Only a listed yes of the same conversation books; the replies say what would be done and what was done."""

from bankllm.assistant.actions.answers import ASK, NOTHING_WAITS, answered, proposed
from bankllm.assistant.actions.proposals import ActionDesk
from bankllm.assistant.facts import ReadyCall

ME, TALK = "CUST003", "talk"
CALL = ReadyCall("transfer", {"amount_minor": 5000, "payee_id": "PAY00301"})


def say(desk: ActionDesk, message: str, talk: str = TALK, who: str = ME) -> str | None:
    facts = answered(desk, who, talk, message)
    return facts and facts.text


def test_a_proposal_asks_and_a_yes_books_it_once(desk: ActionDesk) -> None:
    facts, proposal = proposed(desk, ME, TALK, CALL)
    assert proposal is not None
    assert facts.text == f"{proposal.text}. {ASK}"
    assert facts.lines == ()  # no model words it
    assert facts.sources == ("ledger:ACC00301",)
    assert facts.result == proposal.model_dump(mode="json")
    assert say(desk, "yes, but make it £20") is None
    assert say(desk, "OK", "another talk") == NOTHING_WAITS
    assert say(desk, "yes", "another talk") == say(desk, "yes", who="CUST004") == say(desk, "no", who="CUST004")
    assert desk.pending(ME, TALK) == proposal
    done = say(desk, "Yes, please!")
    assert done is not None
    assert done.startswith(f"Done: {proposal.text}.")
    assert say(desk, "yes") == "That is done already, and it was not done a second time."
    assert say(desk, "no") == "This is done already, so it cannot be cancelled here."


def test_what_is_not_possible_or_not_allowed_is_a_reply(desk: ActionDesk) -> None:
    facts, proposal = proposed(desk, ME, TALK, ReadyCall("transfer", {"amount_minor": -1}))
    assert (facts.text, proposal) == ("The amount must be more than nothing. Nothing was done.", None)
    facts, proposal = proposed(None, ME, TALK, CALL)
    assert facts.text.startswith("I cannot do that here")
    assert proposal is None
