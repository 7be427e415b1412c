"""What memory does for a chat: the turns before it, earlier messages like it, and the turn that is added.

If memory fails, the chat goes on without it, see `ChatReply.unavailable`.
"""

import json
import logging
from collections.abc import Sequence

from bankllm.assistant.care.replies import OFFER
from bankllm.assistant.earlier.shown import dumped
from bankllm.assistant.respond import BETWEEN
from bankllm.assistant.turn import PendingChat
from bankllm.errors import StoreError
from bankllm.vectors.rows import MAX_TEXT_CHARACTERS, Match, Query
from bankllm.vectors.service import Message, VectorService

RECALLED = 5
"""How many of the customer's nearest earlier messages are considered."""
CONTEXT = 20
"""The customer's latest turns among which the conversation's last turn is searched."""

logger = logging.getLogger(__name__)


def turns_of(memory: VectorService, pending: PendingChat) -> list[Message]:
    """The latest turns of this conversation, the newest first; none if it is new."""
    if not pending.continues:
        return []
    try:
        turns = memory.for_user(pending.customer_id).recent(CONTEXT)
    except StoreError:
        return []
    return [turn for turn in turns if turn.conversation_id == pending.conversation_id]


def recall(memory: VectorService, pending_chats: Sequence[PendingChat]) -> list[list[Match]]:
    """For each chat the customer's nearest earlier messages, by one search."""
    queries = [Query(pending.customer_id, pending.encoded.result().vector) for pending in pending_chats]
    try:
        return memory.store.search_many(queries, RECALLED)
    except StoreError as error:
        logger.error("the memory cannot be searched, so the replies do not use earlier messages: %s", error)
        for pending in pending_chats:
            pending.unavailable = ("memory",)
        return [[] for _ in pending_chats]


def store(memory: VectorService, replied: Sequence[PendingChat]) -> None:
    """Store the turns with one commit, but those that are not kept."""
    rows = []
    for pending in (pending for pending in replied if pending.kept):
        assert pending.reply is not None
        asked = json.dumps(vars(pending.question)) if pending.question else ""
        parts = pending.reply.text.split(BETWEEN)
        text = BETWEEN.join(part for part in parts if part != OFFER)[:MAX_TEXT_CHARACTERS]
        calls = dumped([(call.tool, call.arguments) for call in pending.calls if call.result])
        turn = Message(pending.message, text, pending.decision.intent, pending.conversation_id, asked, calls)
        row = memory.for_user(pending.customer_id).row(turn, pending.encoded.result().vector)
        rows.append((pending.customer_id, [row]))
    try:
        memory.store.upsert_many(rows)
    except StoreError as error:
        logger.error("the turns of %d chats were not stored; their replies are sent: %s", len(rows), error)
        for pending in replied:
            pending.unavailable += ("storing",)
