"""`GET /api/v1/handovers/{handover_id}`: what a contact centre needs to go on with a customer's conversation.

The token needs the scope `handover:read`; without authentication the route does not exist.
"""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path

from bankllm.assistant.engine import ChatEngine
from bankllm.assistant.handover import HandOver, HandOverDesk, UnknownHandOver
from bankllm.serving.auth import AccessToken, ReadToken
from bankllm.serving.errors import READ_REFUSED
from bankllm.settings import Settings

SCOPE = "handover:read"


def handover_routes(current: Callable[[], ChatEngine], token: ReadToken, settings: Settings) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["hand-over"])

    @cache
    def desk(bank: Any) -> HandOverDesk:
        return HandOverDesk(bank, settings)

    @router.get("/handovers/{handover_id}", summary="Read the summary of a conversation", responses=READ_REFUSED)
    def read(
        handover_id: Annotated[str, Path(pattern="^[a-p]{32}$")], reader: Annotated[AccessToken, Depends(token)]
    ) -> HandOver:
        """What the customer asked, what was understood, and what was tried, with account numbers masked. Each reading
        is an entry of the audit log.
        """
        reader.require(SCOPE)
        bank: Any = current().bank  # an `ActingBank`, unless its ledger cannot be written
        try:
            if not hasattr(bank, "writing"):
                raise UnknownHandOver("This bank's ledger keeps no hand-overs.")
            return desk(bank).read(handover_id, reader.customer_id or "")
        except UnknownHandOver as error:
            raise HTTPException(404, str(error)) from None

    return router
