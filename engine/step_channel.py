"""Owns how a step travels from rank 0 to the others: one frame over a connection to each. Knows no models.

A rank that waits here sleeps in the kernel.
"""

from __future__ import annotations

import socket

import numpy as np

from engine.framing import LENGTH_BYTES, frame
from engine.step import IntArray, Step, decode_words, encode_copies
from scheduling.swap_area import BlockCopies

_NOTHING_MORE = np.empty(0, np.int32)


class RankGone(RuntimeError):
    """Another rank of this replica has ended; the engine is of no more use."""


class StepChannel:
    """Both ends: `send` and `stop` on rank 0, `receive` on the others. All raise RankGone."""

    def __init__(self, connections: list[socket.socket]) -> None:
        """connections: on rank 0 one to each other rank, on these one to rank 0."""
        self._connections = connections
        self._readers = [connection.makefile("rb") for connection in connections]

    def send(self, step: Step | BlockCopies) -> None:
        if self._connections:
            self._send_words(step.encode() if isinstance(step, Step) else encode_copies(step))

    def stop(self) -> None:
        """Ends `receive` on every other rank."""
        self._send_words(_NOTHING_MORE)

    def receive(self) -> Step | BlockCopies | None:
        """The next step, or what to copy before it; None when rank 0 has stopped."""
        num_bytes = int.from_bytes(self._read(LENGTH_BYTES))
        if num_bytes == 0:
            return None
        return decode_words(np.frombuffer(bytearray(self._read(num_bytes)), np.int32))

    def close(self) -> None:
        """Hangs up; what has been sent still arrives."""
        for reader in self._readers:
            reader.close()
        for connection in self._connections:
            connection.close()

    def _send_words(self, words: IntArray) -> None:
        message = frame(words.tobytes())
        for connection in self._connections:
            try:
                connection.sendall(message)
            except OSError as error:
                raise RankGone(f"a step could not be sent: {error}") from error

    def _read(self, num_bytes: int) -> bytes:
        try:
            found = self._readers[0].read(num_bytes)
        except OSError as error:
            raise RankGone(f"no step came: {error}") from error
        if len(found) < num_bytes:
            raise RankGone("rank 0 hung up without a word")
        return found
