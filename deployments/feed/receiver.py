"""Owns the ingress's end: listens, lets in who knows the secret, and sorts what comes into mailboxes."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import secrets
from collections.abc import Iterator
from typing import cast

import msgspec

from deployments.feed.mailbox import Mailbox
from deployments.feed.messages import BEAT_S, FeedMessage, decode
from deployments.generate_call import FeedAddress
from engine.framing import FrameBuffer, FrameTooLarge

logger = logging.getLogger("ray.serve")

SECRET_BYTES = 32
INTRODUCTION_S = 5.0  # how long a new connection may take to say the secret
SILENT_S = 4 * BEAT_S  # a replica that says nothing for so long is stopped, or cut off: its answers are lost


def call_id(lease_id: str) -> str:
    """What the lease ids of all attempts of one call have in common."""
    return lease_id.partition("~")[0]


class TokenFeed:
    """What one ingress process hears of its calls."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._mailboxes: dict[str, Mailbox] = {}
        self._connections: set[asyncio.BaseTransport] = set()
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._host = ""

    async def listen(self, host: str) -> FeedAddress:
        """Where replicas reach this process; listens there from the first call on."""
        async with self._opening:
            if self._server is None:
                self._loop = asyncio.get_running_loop()
                self._server = await self._loop.create_server(self._accept, host, 0)
                self._host = host
        port: int = self._server.sockets[0].getsockname()[1]
        return FeedAddress(self._host, port, self._secret)

    @contextlib.contextmanager
    def mailbox(self, lease_id: str) -> Iterator[Mailbox]:
        """The mailbox of one call, under the lease id of any attempt."""
        name = call_id(lease_id)
        mailbox = self._mailboxes[name] = Mailbox()
        try:
            yield mailbox
        finally:
            mailbox.close()
            del self._mailboxes[name]

    def expect(self, lease_id: str, replica_id: str | None) -> None:
        """The call under this lease is sent to that replica; None: to the one that was said before, which did not take
        it. From any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._expect, lease_id, replica_id)

    def close(self) -> None:
        """Listens no longer, and hangs up on who is connected."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close()

    def _expect(self, lease_id: str, replica_id: str | None) -> None:
        if (mailbox := self._mailboxes.get(call_id(lease_id))) is not None:
            mailbox.expect(lease_id, replica_id)

    def _accept(self) -> _Connection:
        return _Connection(self._secret, self._mailboxes, self._connections)


class _Stranger(Exception):
    """Whoever has connected does not know the secret."""


class _Connection(asyncio.Protocol):
    """One replica. When it is lost, so are the answers that were coming over it."""

    _transport: asyncio.BaseTransport
    _late: asyncio.TimerHandle

    def __init__(self, secret: bytes, mailboxes: dict[str, Mailbox], connections: set[asyncio.BaseTransport]) -> None:
        self._secret = secret
        self._mailboxes = mailboxes
        self._connections = connections
        self._introduction = b""
        self._is_known = False
        self._frames = FrameBuffer()
        self._num_silent_beats = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._connections.add(transport)
        self._late = asyncio.get_running_loop().call_later(INTRODUCTION_S, transport.close)

    def data_received(self, data: bytes) -> None:
        self._num_silent_beats = 0
        try:
            self._frames.feed(data if self._is_known else self._introduce(data))
            for payload in self._frames.take():
                self._sort(decode(payload))
        except (_Stranger, FrameTooLarge, msgspec.DecodeError) as error:
            logger.warning("A connection to the feed of tokens was closed: %s", error)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._late.cancel()
        self._connections.discard(self._transport)
        for mailbox in self._mailboxes.values():
            mailbox.lose(self)

    def _introduce(self, data: bytes) -> bytes:
        """What follows the secret, once it is complete. Raises _Stranger."""
        self._introduction += data
        said, rest = self._introduction[:SECRET_BYTES], self._introduction[SECRET_BYTES:]
        if len(said) < SECRET_BYTES:
            return b""
        if not hmac.compare_digest(said, self._secret):
            raise _Stranger("it does not know the secret")
        self._is_known = True
        self._late.cancel()
        self._listen_for_silence()
        return rest

    def _listen_for_silence(self) -> None:
        """Hangs up on a replica that has said nothing for too long. A pause of this process's own is not counted: what
        was said meanwhile is read before the next look."""
        self._num_silent_beats += 1
        if self._num_silent_beats * BEAT_S > SILENT_S:
            logger.warning("A replica has said nothing for %g s; its answers are lost.", SILENT_S)
            cast("asyncio.Transport", self._transport).abort()
            return
        self._late = asyncio.get_running_loop().call_later(BEAT_S, self._listen_for_silence)

    def _sort(self, message: FeedMessage) -> None:
        for started in message.started:
            if (mailbox := self._mailboxes.get(call_id(started.lease_id))) is not None:
                mailbox.start(started, self)
        for lease_id in message.entered:
            if (mailbox := self._mailboxes.get(call_id(lease_id))) is not None:
                mailbox.enter(lease_id)
        for output in message.outputs:
            if (mailbox := self._mailboxes.get(call_id(output.lease_id))) is not None:
                mailbox.put(output)
