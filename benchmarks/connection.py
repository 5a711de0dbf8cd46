"""Owns one client's connection: sends a request, records what comes back and when. Reads no events.

Where client and service share the cores, what the client uses is missing from what it measures. httpx used several
times as much for each piece of a stream; this one only takes the time and keeps the bytes.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import msgspec

from benchmarks.event_stream import Arrival
from benchmarks.http_response import Response, ResponseBroken

_MAX_REFUSAL_BYTES = 200
_OK = 200
_WHOLE_SECONDS = re.compile(r"[0-9]{1,9}")
_NO_HEADERS: Mapping[str, str] = {}


class Refused(Exception):
    """Another status than 200. said: the first words of the answer. retry_after_s: None where none is told."""

    def __init__(self, status: int, said: str, retry_after_s: float | None) -> None:
        super().__init__(f"{status}: {said}")
        self.status = status
        self.said = said
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Recorded:
    """One answer as it came. headers: by lower-case name."""

    status: int
    headers: dict[str, str]
    keeps_open: bool
    arrivals: list[Arrival]


class Connection:
    """One request at a time, over one connection that is opened when it is needed and kept while the service keeps it.

    Close it in the end.
    """

    def __init__(self, base_url: str) -> None:
        """base_url: `http://HOST:PORT`, or https, with a path before every request's or none."""
        self._url = urlsplit(base_url)
        self._stream: _Stream | None = None

    async def post(
        self, path: str, document: dict[str, object], headers: Mapping[str, str] = _NO_HEADERS
    ) -> list[Arrival]:
        """The body of the answer, as it came. headers, and what it raises: as for `ask`."""
        return (await self.ask(path, document, headers)).arrivals

    async def ask(self, path: str, document: dict[str, object], headers: Mapping[str, str] = _NO_HEADERS) -> Recorded:
        """The whole answer. headers: those of the request beside the usual ones.

        Raises:
            OSError: no connection, or it broke.
            ResponseBroken: the answer is not whole.
            Refused: see there.
        """
        stream = self._stream if self._stream is not None and self._stream.is_open else await _open(self._url)
        self._stream = None  # whatever ends this early leaves an answer on the connection that nobody reads
        try:
            recorded = await stream.ask(_request(self._url, path, headers, msgspec.json.encode(document)))
        except BaseException:
            stream.close()
            raise
        if recorded.keeps_open:
            self._stream = stream
        else:
            stream.close()
        return _accepted(recorded)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class _Stream(asyncio.Protocol):
    """The connection itself. It does nothing for a piece but take the time and look for the end of the answer."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._response = Response()
        self._arrivals: list[Arrival] = []
        self._whole: asyncio.Future[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> Recorded:
        assert self._transport is not None
        self._response, self._arrivals = Response(), []
        self._whole = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._whole
        response = self._response
        return Recorded(response.status, response.headers, response.keeps_open, self._arrivals)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        at_s = time.perf_counter()
        try:
            body = self._response.feed(data)
        except ResponseBroken as error:
            self._end(error)
            return
        if body:
            self._arrivals.append(Arrival(at_s, body))
        if self._response.is_whole:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            self._response.closed()
        except ResponseBroken as error:
            self._end(exc or error)
        else:
            self._end(exc)

    def _end(self, error: Exception | None) -> None:
        if self._whole is None or self._whole.done():
            return
        if error is None:
            self._whole.set_result(None)
        else:
            self._whole.set_exception(error)


async def _open(url: SplitResult) -> _Stream:
    tls = url.scheme == "https"
    port = url.port or (443 if tls else 80)
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(_Stream, url.hostname or "", port, ssl=True if tls else None)
    return stream


def _request(url: SplitResult, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    head = (
        f"POST {url.path.rstrip('/')}{path} HTTP/1.1",
        f"host: {url.netloc.rpartition('@')[2]}",
        "content-type: application/json",
        "accept-encoding: identity",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    )
    return "\r\n".join((*head, "", "")).encode() + body


def _accepted(recorded: Recorded) -> Recorded:
    if recorded.status == _OK:
        return recorded
    said = b"".join(arrival.data for arrival in recorded.arrivals)[:_MAX_REFUSAL_BYTES]
    raise Refused(recorded.status, said.decode(errors="replace"), _retry_after_s(recorded.headers))


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """In whole seconds; a date, the other form that HTTP allows, is not read."""
    told = headers.get("retry-after", "")
    return float(told) if _WHOLE_SECONDS.fullmatch(told) else None
