"""Reads one HTTP/1.1 response as its bytes come in, and says when it is whole. Opens nothing, keeps no body."""

from __future__ import annotations

from typing import Protocol

_HEAD_ENDS = b"\r\n\r\n"
_LINE_ENDS = b"\r\n"
_MAX_HEAD_BYTES = 65_536


class ResponseBroken(Exception):
    """The bytes are no whole HTTP response; the message says how. Whoever asked counts a failure."""


class _Body(Protocol):
    """How a body says where it ends. `is_whole` may only be asked between two calls of `feed`."""

    @property
    def is_whole(self) -> bool: ...
    def feed(self, data: bytes) -> bytes: ...


class Response:
    """Feed it what the connection gives. status: 0 until the head is whole. headers: by lower-case name. keeps_open:
    whether to ask there again."""

    __slots__ = ("_body", "_head", "headers", "keeps_open", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.keeps_open = False
        self._head = b""
        self._body: _Body | None = None

    @property
    def is_whole(self) -> bool:
        return self._body is not None and self._body.is_whole

    def feed(self, data: bytes) -> bytes:
        """What of `data` belongs to the body.

        Raises:
            ResponseBroken: it is not HTTP.
        """
        if self._body is not None:
            return self._body.feed(data)
        head, found, rest = (self._head + data).partition(_HEAD_ENDS)
        if not found:
            self._head = head
            if len(head) > _MAX_HEAD_BYTES:
                raise ResponseBroken(f"expected a head of at most {_MAX_HEAD_BYTES} bytes, got {len(head)} and no end")
            return b""
        self._body = self._read_head(head)
        return self._body.feed(rest)

    def closed(self) -> None:
        """The other end closed the connection.

        Raises:
            ResponseBroken: before the response was whole.
        """
        if not self.is_whole and not isinstance(self._body, _UntilClosed):
            raise ResponseBroken("the connection was closed before the response was whole")

    def _read_head(self, head: bytes) -> _Body:
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, _, rest = status_line.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise ResponseBroken(f"expected an HTTP/1.1 status line, got {status_line[:80]!r}")
        self.headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        body = _body(self.headers)
        closing = version == "HTTP/1.0" or self.headers.get("connection", "").lower() == "close"
        self.status, self.keeps_open = int(rest[:3]), not closing and not isinstance(body, _UntilClosed)
        return body


def _body(headers: dict[str, str]) -> _Body:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return _Chunked()
    length = headers.get("content-length")
    if length is None:
        return _UntilClosed()
    if not length.isdigit():
        raise ResponseBroken(f"content-length: expected a number, got {length[:20]!r}")
    return _Fixed(int(length))


class _UntilClosed:
    __slots__ = ()
    is_whole = False

    def feed(self, data: bytes) -> bytes:
        return data


class _Fixed:
    __slots__ = ("_missing",)

    def __init__(self, num_bytes: int) -> None:
        self._missing = num_bytes

    @property
    def is_whole(self) -> bool:
        return self._missing <= 0

    def feed(self, data: bytes) -> bytes:
        self._missing -= len(data)
        return data


class _Chunked:
    """Chunks, each with its length before it, up to one of no length. Trailers are not expected."""

    __slots__ = ("_rest", "is_whole")

    def __init__(self) -> None:
        self._rest = b""
        self.is_whole = False

    def feed(self, data: bytes) -> bytes:
        rest, whole = self._rest + data, []
        while not self.is_whole:
            line, found, after = rest.partition(_LINE_ENDS)
            if not found:
                break
            length = _chunk_length(line)
            if len(after) < length + len(_LINE_ENDS):
                break
            whole.append(after[:length])
            rest = after[length + len(_LINE_ENDS) :]
            self.is_whole = length == 0
        self._rest = rest
        return b"".join(whole)


def _chunk_length(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        raise ResponseBroken(f"expected a chunk's length, got {line[:20]!r}") from None
