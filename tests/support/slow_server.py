"""`bankllm serve` with a slow responder, for tests of what happens during a reply.

python -m tests.support.slow_server --port 8000
"""

import sys
import time
from collections.abc import Iterator

from bankllm.assistant import engine
from bankllm.assistant.wording.template import Facts, Reply
from bankllm.cli import main

PIECES = ("One moment. ", "I am looking. ", "Still looking. ", "Here it is.")
PAUSE_S = 0.4


class SlowResponder:
    name = "slow"

    def respond(self, facts: Facts) -> Reply:
        return [item for item in self.stream(facts) if isinstance(item, Reply)][-1]

    def stream(self, facts: Facts) -> Iterator[str | Reply]:
        for piece in PIECES:
            yield piece
            time.sleep(PAUSE_S)
        yield Reply("".join(PIECES), (), self.name)


if __name__ == "__main__":
    engine.make_responder = lambda spec, settings: SlowResponder()
    sys.argv.insert(1, "serve")
    main()
