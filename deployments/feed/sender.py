"""Owns the replica's end: one connection to each ingress that has calls here, and what happens when one breaks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from deployments.feed.messages import BEAT_S, CallStarted, FeedMessage, encode
from deployments.generate_call import FeedAddress
from engine.protocol import SequenceOutput

CONNECT_TIMEOUT_S = 5.0
UNHEARD_S = 4 * BEAT_S  # what was sent has reached no ingress for so long: its host has vanished, or is cut off
MAX_UNREAD_BYTES = 32 * 1024 * 1024  # what an ingress that has stopped reading may cost


class IngressGone(ConnectionError):
    """The ingress cannot be reached, or reads no more: nobody is left to read its answers."""


class Feed(asyncio.Protocol):
    """The connection to one ingress. What is sent after its end is dropped: the calls have been told by then."""

    _transport: asyncio.Transport

    def __init__(self, secret: bytes, on_lost: Callable[[Feed], None]) -> None:
        self._secret = secret
        self._on_lost = on_lost
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        # A host that vanishes closes nothing, and by itself TCP waits for it for a quarter of an hour.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(UNHEARD_S * 1000))
        self._transport.write(self._secret)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        self._on_lost(self)

    def start(self, message: CallStarted) -> None:
        """Tell that a call has started."""
        self._send(FeedMessage(started=[message]))

    def enter(self, lease_id: str) -> None:
        """Tell that a suspect is computed from now on."""
        self._send(FeedMessage(entered=[lease_id]))

    def put(self, outputs: list[SequenceOutput]) -> None:
        """Tell what one step gave this ingress's calls."""
        self._send(FeedMessage(outputs=outputs))

    def beat(self) -> None:
        """Tell that this replica is there, though it has nothing to tell."""
        self._send(FeedMessage())

    def close(self) -> None:
        """Hangs up once what was sent has gone out."""
        self._transport.close()

    def _send(self, message: FeedMessage) -> None:
        if self.is_lost:
            return
        self._transport.write(encode(message))
        if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._transport.abort()


class Feeds:
    """The feeds of one replica, by address. on_lost: told of each that ends."""

    def __init__(self, on_lost: Callable[[Feed], None]) -> None:
        self._on_lost = on_lost
        self._feeds: dict[FeedAddress, asyncio.Task[Feed]] = {}

    @property
    def num_kept(self) -> int:
        return len(self._feeds)

    async def reach(self, address: FeedAddress) -> Feed:
        """The feed to the ingress at `address`; the first call connects, those that come meanwhile wait for it.

        Raises:
            IngressGone: it could not be reached, or hung up before anybody could be told.
        """
        opening = self._feeds.get(address)
        if opening is None or _has_ended(opening):
            opening = self._feeds[address] = asyncio.create_task(self._connect(address))
            opening.add_done_callback(lambda _: self._drop_ended())  # it may have failed, and nobody ask again
        feed = await asyncio.shield(opening)
        if feed.is_lost:
            raise IngressGone(f"the ingress at {address.host}:{address.port} has hung up")
        return feed

    async def beat(self) -> None:
        """Keeps all ingresses told that this replica is there. Ends by cancellation alone."""
        while True:
            await asyncio.sleep(BEAT_S)
            for opening in list(self._feeds.values()):
                if opening.done() and not _has_ended(opening):
                    opening.result().beat()

    def close(self) -> None:
        """Hangs up everywhere."""
        for opening in list(self._feeds.values()):
            opening.cancel()
            if not _has_ended(opening) and opening.done():
                opening.result().close()

    async def _connect(self, address: FeedAddress) -> Feed:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, feed = await loop.create_connection(
                    lambda: Feed(address.secret, self._forget), address.host, address.port
                )
        except OSError as error:  # TimeoutError is one
            raise IngressGone(f"the ingress at {address.host}:{address.port} cannot be reached: {error}") from error
        return feed

    def _forget(self, lost: Feed) -> None:
        self._drop_ended()
        self._on_lost(lost)

    def _drop_ended(self) -> None:
        ended = [address for address, opening in self._feeds.items() if _has_ended(opening)]
        for address in ended:
            del self._feeds[address]


def _has_ended(opening: asyncio.Task[Feed]) -> bool:
    if not opening.done():
        return False
    return opening.cancelled() or opening.exception() is not None or opening.result().is_lost
