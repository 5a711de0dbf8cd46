"""Owns where one message on a byte stream ends and the next begins. Knows nothing of sockets or of what is said.

A frame is its payload's length in four bytes, big end first, then the payload.
"""

from __future__ import annotations

MAX_FRAME_BYTES = 64 * 1024 * 1024
LENGTH_BYTES = 4


class FrameTooLarge(ValueError):
    """A frame is beyond the limit: a message that should have been split, or a peer that speaks something else."""

    def __init__(self, num_bytes: int, max_bytes: int) -> None:
        super().__init__(f"a frame of {num_bytes} bytes; at most {max_bytes} are allowed")


def frame(payload: bytes, max_bytes: int = MAX_FRAME_BYTES) -> bytes:
    """The payload as it goes over the wire. Raises FrameTooLarge."""
    return checked_length(len(payload), max_bytes).to_bytes(LENGTH_BYTES) + payload


def checked_length(num_bytes: int, max_bytes: int = MAX_FRAME_BYTES) -> int:
    """The length, if a frame may be so long. Raises FrameTooLarge."""
    if num_bytes > max_bytes:
        raise FrameTooLarge(num_bytes, max_bytes)
    return num_bytes


class FrameBuffer:
    """Bytes in, whole payloads out. `max_bytes` bounds a payload."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        self._bytes += data

    def take(self) -> list[bytes]:
        """The payloads that are complete. Raises FrameTooLarge."""
        payloads, start = [], 0
        while len(self._bytes) >= start + LENGTH_BYTES:
            body = start + LENGTH_BYTES
            end = body + checked_length(int.from_bytes(self._bytes[start:body]), self._max_bytes)
            if len(self._bytes) < end:
                break
            payloads.append(bytes(self._bytes[body:end]))
            start = end
        del self._bytes[:start]
        return payloads
