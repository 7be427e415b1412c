"""A customer's actions: what the assistant proposed, and the buttons yes and no.

`GET /api/v1/customers/{customer_id}/actions`, and `POST` to `confirm` or `cancel` under `actions/{action_id}/`.
"""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path
from pydantic import BaseModel, Field

from bankllm.assistant.actions.proposals import ActionDesk
from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.engine import ChatEngine
from bankllm.serving.auth import ACTIONS_SCOPE, AccessToken, ReadToken
from bankllm.serving.chat_api import CustomerId
from bankllm.serving.errors import READ_REFUSED, REFUSED, documented
from bankllm.serving.limits import RateLimit

ActionId = Annotated[str, Path(min_length=1, max_length=64)]


class Answer(BaseModel):
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """The digest of the action that the customer was shown."""


def actions_routes(current: Callable[[], ChatEngine], token: ReadToken, limit: RateLimit) -> APIRouter:
    router = APIRouter(prefix="/api/v1/customers/{customer_id}/actions", tags=["actions"])
    Given = Annotated[AccessToken, Depends(token)]
    refused = REFUSED | documented(409)

    def desk(customer_id: str, given: AccessToken, *scopes: str) -> ActionDesk:
        limit.admit(given, customer_id)
        for scope in scopes:
            given.require(scope)
        if (found := current().actions) is None:
            raise HTTPException(404, "This bank offers no actions: its ledger is only read.")
        found.book_due()
        return found

    @router.get("", summary="List a customer's actions", responses=READ_REFUSED)
    def actions(customer_id: CustomerId, given: Given) -> list[Proposal]:
        """The latest proposals and what became of them, the newest first. Those in the state `proposed` wait."""
        return desk(customer_id, given).proposals(customer_id)

    @router.post("/{action_id}/confirm", summary="Confirm an action", responses=refused)
    def confirm(customer_id: CustomerId, action_id: ActionId, body: Answer, given: Given) -> Proposal:
        """Book it. A repeated call returns the booked action again. 403: this customer has no such action; 409: it
        expired, was replaced or cancelled, has another digest, or the ledger does not allow it any more.
        """
        done = desk(customer_id, given, ACTIONS_SCOPE).confirm(customer_id, action_id, body.digest)
        current().understanding.views.forget(customer_id)
        return done

    @router.post("/{action_id}/cancel", summary="Cancel an action", responses=refused)
    def cancel(customer_id: CustomerId, action_id: ActionId, body: Answer, given: Given) -> Proposal:
        """Do not book it. A repeated call has no effect. 403 and 409 as for `confirm`; 409 also if it is booked."""
        return desk(customer_id, given, ACTIONS_SCOPE).cancel(customer_id, action_id, body.digest)

    return router
