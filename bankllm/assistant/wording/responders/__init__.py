"""Responders by the scheme of their address; `bankllm.assistant.wording.responder.RESPONDERS` finds these modules."""
