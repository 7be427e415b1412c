"""Actions in a conversation: a proposal as a reply that asks for a yes, and the reply to a yes or a no.

These texts are sent as they stand: no model words them.
"""

from bankllm.assistant.actions.plans import ActionRefused
from bankllm.assistant.actions.proposals import ActionClosed, ActionDesk
from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.actions.yes_no import is_no, says_yes_to
from bankllm.assistant.facts import Facts, ReadyCall

ASK = "Shall I do that? Answer yes or no within ten minutes."
NOT_ALLOWED = (
    "I cannot do that here: this connection may only read. Nothing was done. Use the app, or ask for a person."
)
AGAIN = "That is done already, and it was not done a second time."
NOTHING_WAITS = "There is nothing to confirm or cancel. Tell me what you would like me to do."


def proposed(
    desk: ActionDesk | None, customer_id: str, conversation_id: str, call: ReadyCall
) -> tuple[Facts, Proposal | None]:
    """Propose an action; return what to reply, and the proposal unless the action is not possible.

    Without a desk, no action is allowed.
    """
    if desk is None:
        return Facts(NOT_ALLOWED), None
    try:
        proposal = desk.propose(customer_id, conversation_id, call)
    except ActionRefused as error:
        return Facts(str(error)), None
    return _facts(proposal, f"{proposal.text}. {ASK}"), proposal


def answered(
    desk: ActionDesk, customer_id: str, conversation_id: str, message: str, waited: Proposal | None = None
) -> Facts | None:
    """What a yes or a no to `waited`, or to the last proposal, does; None for any other message, which does nothing."""
    last = waited or desk.latest(customer_id, conversation_id)
    yes = says_yes_to(last.tool if last and last.state == "proposed" else "", message)
    if not (yes or is_no(message)):
        return None
    if last is None:
        return Facts(NOTHING_WAITS)
    try:
        done = (desk.confirm if yes else desk.cancel)(customer_id, last.action_id, last.digest)
    except ActionClosed as error:
        return _facts(last, str(error))
    if last.state != "proposed":
        return _facts(done, AGAIN if yes else NOTHING_WAITS)
    return _facts(done, done.result if yes else f"Nothing was done. I have not done this: {last.text}.")


def _facts(proposal: Proposal, text: str) -> Facts:
    accounts = (proposal.arguments.get(f"{side}_account_id") for side in ("from", "to"))
    sources = tuple(f"ledger:{account}" for account in accounts if account)
    return Facts(text, sources=sources, result=proposal.model_dump(mode="json"))
