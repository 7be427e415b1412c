"""The limit of a request's head. uvicorn over httptools takes one of any length, and keeps all of it in memory.

    uvicorn.Config(app, http=LimitedHead)

A body's limit is the application's, see `limits`: a head is complete before the application hears of it.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 32 * 1024
"""Target and headers: four times the longest token."""


class HeadTooLarge(Exception):
    """Raised into the parser, which stops; uvicorn then refuses the request."""


class LimitedHead(HttpToolsProtocol):
    """uvicorn's protocol, which answers 431 to a head beyond `MAX_HEAD_BYTES` and hangs up."""

    _in_head = False
    _chunk = 0
    """Bytes that have just come."""
    _waiting = 0
    """Bytes of an unfinished head, without those that came with its beginning."""

    def data_received(self, data: bytes) -> None:
        self._chunk = len(data)
        super().data_received(data)
        self._waiting += self._chunk
        if self._in_head and self._waiting > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse()

    def on_message_begin(self) -> None:
        self._in_head, self._waiting = True, -self._chunk
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refuse()
            raise HeadTooLarge
        self._in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is not HTTP; silent where the request is refused already."""
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def _refuse(self) -> None:
        said = f"The headers are larger than {MAX_HEAD_BYTES} bytes. Send fewer of them.\n"
        head = (
            "HTTP/1.1 431 Request Header Fields Too Large",
            "content-type: text/plain; charset=utf-8",
            f"content-length: {len(said)}",
            "connection: close",
        )
        self.transport.write("\r\n".join([*head, "", said]).encode())
        self.transport.close()
