"""`template`: the text of the facts, without a model."""

from collections.abc import Iterator

from bankllm.assistant.facts import Facts, Request
from bankllm.assistant.wording.responder import RESPONDERS, Reply
from bankllm.errors import UsageError
from bankllm.settings import Settings


class TemplateResponder:
    name = "template"
    waits = False

    def stream(self, request: Request, facts: Facts) -> Iterator[str | Reply]:
        yield facts.text
        yield Reply(facts.text)


@RESPONDERS.register("template")
def make_template(rest: str, settings: Settings) -> TemplateResponder:
    if rest:
        raise UsageError("The responder `template` has no address. Write only `template`.")
    return TemplateResponder()
