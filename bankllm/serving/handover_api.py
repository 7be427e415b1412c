"""`GET /api/v1/handovers/{handover_id}`: what a contact centre needs to go on with a customer's conversation.

The token needs the scope `handover:read`; without authentication the route does not exist.
"""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path

from bankllm.assistant.engine import ChatEngine
from bankllm.assistant.handover import HandOver, UnknownHandOver
from bankllm.serving.auth import AccessToken, ReadToken
from bankllm.serving.errors import READ_REFUSED

SCOPE = "handover:read"


def handover_routes(current: Callable[[], ChatEngine], token: ReadToken) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["hand-over"])

    @router.get("/handovers/{handover_id}", summary="Read the summary of a conversation", responses=READ_REFUSED)
    def read(
        handover_id: Annotated[str, Path(pattern="^[a-p]{32}$")], reader: Annotated[AccessToken, Depends(token)]
    ) -> HandOver:
        """What the customer asked, what was understood, and what was tried, with account numbers masked. Each reading
        is an entry of the audit log.
        """
        reader.require(SCOPE)
        if (desk := current().handovers) is None:
            raise HTTPException(404, "This bank's ledger keeps no hand-overs.")
        try:
            return desk.read(handover_id, reader.customer_id or "")
        except UnknownHandOver as error:
            raise HTTPException(404, str(error)) from None

    return router
