"""Owns the Unix socket between a replica and its rank 0: both ends, and the driver. Knows nothing of what they say.

A frame's payload is msgpack of a `CommandMessage` (to rank 0) or a `StepMessage` (from it). Either side's end of file
is the other's signal to stop.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from engine.framing import LENGTH_BYTES, FrameBuffer, checked_length, frame
from engine.loop import EngineFailed, EngineLoop
from engine.protocol import CommandMessage, StepMessage

SEND_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 30.0
_CONNECT_INTERVAL_S = 0.02
_READ_BYTES = 256 * 1024
_commands = msgspec.msgpack.Decoder(CommandMessage)
_steps = msgspec.msgpack.Decoder(StepMessage)
_encoder = msgspec.msgpack.Encoder()


class ReplicaGone(ConnectionError):
    """The replica hung up, or has not read for too long. Rank 0's driver catches it: there is nobody left to serve."""


class RankGone(ConnectionError):
    """Rank 0 is not there, or no longer. The replica catches it: its engine is lost."""


def encode_frame(message: CommandMessage | StepMessage) -> bytes:
    """Raises FrameTooLarge."""
    return frame(_encoder.encode(message))


class RankChannel:
    """Rank 0's end: blocking, for a process that has no event loop."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.settimeout(SEND_TIMEOUT_S)
        self._readiness = select.poll()
        self._readiness.register(connection, select.POLLIN)
        self._woken = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._readiness.register(self._woken, select.POLLIN)
        self._frames = FrameBuffer()

    @classmethod
    def listen(cls, path: str | Path, timeout_s: float = CONNECT_TIMEOUT_S) -> RankChannel:
        """Bind `path`, wait for the one replica, and remove the file again.

        Raises:
            ReplicaGone: nobody came in time.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            try:
                listener.listen(1)
                listener.settimeout(timeout_s)
                connection, _ = listener.accept()
            except TimeoutError as late:
                raise ReplicaGone(f"no replica came to {path} within {timeout_s:g} s") from late
            finally:
                Path(path).unlink(missing_ok=True)
        return cls(connection)

    def poll(self) -> list[CommandMessage]:
        """What has arrived, without waiting. Raises ReplicaGone."""
        return self.wait(0.0)

    def wait(self, timeout_s: float | None = None) -> list[CommandMessage]:
        """What has arrived, after waiting for at most `timeout_s` (None: until something comes, or somebody wakes it).

        Raises:
            ReplicaGone: it hung up.
        """
        timeout_ms = None if timeout_s is None else timeout_s * 1000
        while ready := [descriptor for descriptor, _ in self._readiness.poll(timeout_ms)]:
            if self._woken in ready:
                os.eventfd_read(self._woken)
            if self._connection.fileno() in ready:
                self._read()
            timeout_ms = 0.0
        return [_commands.decode(payload) for payload in self._frames.take()]

    def send(self, message: StepMessage) -> None:
        """Blocks while the replica is behind, which slows the engine down to its reader's pace. Raises ReplicaGone."""
        try:
            self._connection.sendall(encode_frame(message))
        except OSError as fault:
            raise ReplicaGone(f"the replica does not read: {fault}") from fault

    def wake(self) -> None:
        """Ends a `wait`, this one or the next. Any thread may call it, until `close`."""
        os.eventfd_write(self._woken, 1)

    def close(self) -> None:
        self._connection.close()
        os.close(self._woken)

    def _read(self) -> None:
        data = self._receive()
        if not data:
            raise ReplicaGone("the replica hung up")
        self._frames.feed(data)

    def _receive(self) -> bytes:
        try:
            return self._connection.recv(_READ_BYTES)
        except ConnectionError:
            return b""


class ReplicaChannel:
    """The replica's end, on an event loop. Iterate over it once; the iteration ends when rank 0 is gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, path: str | Path, timeout_s: float = CONNECT_TIMEOUT_S) -> ReplicaChannel:
        """Connect to rank 0, which may not listen yet.

        Raises:
            RankGone: it did not listen in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return cls(*await _open(path))
        except TimeoutError as late:
            raise RankGone(f"rank 0 did not listen on {path} within {timeout_s:g} s") from late

    async def send(self, command: CommandMessage) -> None:
        """Raises RankGone or FrameTooLarge."""
        try:
            self._writer.write(encode_frame(command))
            await self._writer.drain()
        except ConnectionError as fault:
            raise RankGone(f"rank 0 does not read: {fault}") from fault

    async def __aiter__(self) -> AsyncIterator[StepMessage]:
        while (payload := await self._read_frame()) is not None:
            yield _steps.decode(payload)

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return  # rank 0 was faster

    async def _read_frame(self) -> bytes | None:
        """The next payload; None at the end, also if a frame was cut short."""
        try:
            length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES))
            return await self._reader.readexactly(checked_length(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None


def serve_loop(loop: EngineLoop, channel: RankChannel) -> None:
    """Drive the loop until the replica hangs up; what it asks for beside its steps is done in a thread.

    Raises:
        EngineFailed: the engine is broken; the replica has been told how each sequence ended.
    """
    try:
        with loop.guides.beside(channel.wake):
            while True:
                _serve_once(loop, channel)
    except ReplicaGone:
        return
    except EngineFailed as failure:
        channel.send(failure.last_message)
        raise


def _serve_once(loop: EngineLoop, channel: RankChannel) -> None:
    if loop.is_idle and not loop.has_work:
        loop.check_idle()
    for command in channel.poll() if loop.has_work else channel.wait():
        loop.apply(command)
    if loop.has_work:
        channel.send(loop.step())


async def _open(path: str | Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        try:
            return await asyncio.open_unix_connection(path)
        except (FileNotFoundError, ConnectionRefusedError):
            await asyncio.sleep(_CONNECT_INTERVAL_S)  # a Unix socket cannot be watched for; this happens once
