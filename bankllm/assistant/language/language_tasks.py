"""The two tasks of the language model as prompts: *understand* a message as tool calls, and *word* facts as a reply.

Training, evaluation and the service use these prompts. They are short, because a tuned model needs no instructions.
"""

import json
from collections.abc import Sequence

from bankllm.assistant.bank.tools import MAX_EARLIER, Call, call_schemas

Chat = list[dict[str, str]]
"""Messages with `role` and `content`, as chat templates read them."""
UNDERSTAND = "Tool calls for the customer's last message."
WORD = "Answer the customer with these facts only."
MAX_TOKENS = 128
"""Of an output. The longest one of TellerChat has 107."""


def understand_prompt(messages: Sequence[str]) -> Chat:
    """Return the prompt for the customer's messages, oldest first; the last one is to be understood."""
    *earlier, last = messages[-1 - MAX_EARLIER :]
    lines = (*(f"Before: {_line(text)}" for text in earlier), f"Message: {_line(last)}")
    return [{"role": "system", "content": UNDERSTAND}, {"role": "user", "content": "\n".join(lines)}]


def word_prompt(message: str, facts: Sequence[str]) -> Chat:
    """Return the prompt that asks for a reply to `message` from the results of tools, one sentence each."""
    lines = (*(f"Fact: {_line(fact)}" for fact in facts), f"Message: {_line(message)}")
    return [{"role": "system", "content": WORD}, {"role": "user", "content": "\n".join(lines)}]


def calls_text(calls: Sequence[Call]) -> str:
    """Return tool calls as the model writes them: JSON without spaces, with the arguments in the schema's order."""
    ordered = [
        {name: call[name] for name in call_schemas()[call["tool"]]["properties"] if name in call} for call in calls
    ]
    return json.dumps(ordered, ensure_ascii=False, separators=(",", ":"))


def _line(text: str) -> str:
    """Text in one line that cannot look like a control token of a chat template, such as `<|im_end|>`."""
    return " ".join(text.split()).replace("<|", "< |").replace("|>", "| >")
