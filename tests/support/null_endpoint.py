"""An endpoint that answers every request at once, to measure the load client itself. Options as `bankllm serve`.

`/seen` returns the number of other requests received. Request bodies must have a Content-Length.
"""

import argparse
import asyncio
import sys

import httptools
import httpx
import uvloop

ENDPOINT = (sys.executable, __file__)
"""The command, as `ServerProcess(program=...)` expects it."""

HEAD = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
SEEN = 0


def count(url: str) -> int:
    """Return the number of requests that the endpoint at `url` received."""
    return int(httpx.get(f"{url}/seen", trust_env=False, timeout=60).text)


class Endpoint(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.path = url

    def on_message_complete(self) -> None:
        global SEEN
        if self.path == b"/seen":
            body = b"%d" % SEEN
        else:
            SEEN += 1
            body = b'{"status": "ok"}'
        self.transport.write(HEAD % len(body) + body)  # type: ignore[attr-defined]


async def serve(host: str, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Endpoint, host, port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    uvloop.run(serve(options.host, options.port))
