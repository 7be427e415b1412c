"""`bankllm serve` with a slow responder, for tests of what happens during a reply.

python -m tests.support.slow_server --port 8000
"""

import sys
import time
from collections.abc import Iterator

from bankllm.assistant.facts import Facts, Request
from bankllm.assistant.wording.responder import RESPONDERS, Reply
from bankllm.cli import main

PIECES = ("One moment. ", "I am looking. ", "Still looking. ", "Here it is.")
PAUSE_S = 0.4


class SlowResponder:
    name, waits = "slow", True

    def stream(self, request: Request, facts: Facts) -> Iterator[str | Reply]:
        for piece in PIECES:
            yield piece
            time.sleep(PAUSE_S)
        yield Reply("".join(PIECES), self.name)


if __name__ == "__main__":
    RESPONDERS.add("slow", lambda rest, settings: SlowResponder())
    sys.argv[1:1] = ["serve", "--responder", "slow"]
    main()
