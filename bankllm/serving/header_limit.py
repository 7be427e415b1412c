"""Limit the size of a request's header section.

    uvicorn.Config(app, http=HeaderLimitProtocol)

uvicorn with httptools accepts a header section of any size and buffers it in memory. The application cannot limit it,
because uvicorn calls the application only after all headers have arrived. `limits` limits the request body.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 32 * 1024
"""Request target and headers together: four times the longest accepted token."""


class HeadersTooLarge(Exception):
    """Raised inside the parser to stop it. uvicorn then calls `send_400_response`."""


class HeaderLimitProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol that answers 431 and closes the connection if the headers exceed `MAX_HEADER_BYTES`."""

    _in_headers = False
    _chunk_bytes = 0
    """Size of the chunk that is being parsed."""
    _buffered_bytes = 0
    """Size of the incomplete header section, without the chunk in which the section started."""

    def data_received(self, data: bytes) -> None:
        self._chunk_bytes = len(data)
        super().data_received(data)
        self._buffered_bytes += self._chunk_bytes
        if self._in_headers and self._buffered_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._refuse()

    def on_message_begin(self) -> None:
        self._in_headers, self._buffered_bytes = True, -self._chunk_bytes
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEADER_BYTES:
            self._refuse()
            raise HeadersTooLarge
        self._in_headers = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer 400 to a request that is not valid HTTP, unless the request has already been answered with 431."""
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def _refuse(self) -> None:
        text = f"The headers are larger than {MAX_HEADER_BYTES} bytes. Send fewer or shorter headers.\n"
        headers = (
            "HTTP/1.1 431 Request Header Fields Too Large",
            "content-type: text/plain; charset=utf-8",
            f"content-length: {len(text)}",
            "connection: close",
        )
        self.transport.write("\r\n".join([*headers, "", text]).encode())
        self.transport.close()
