"""Owns how much of all bodies one ingress holds until they have been read. Knows nothing of what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deployments.errors import BodiesFull

FREE_BYTES = 64 * 1024  # of each body: what an ordinary request needs, so that large ones keep none of them out


class BodyRoom:
    """What comes slowly, or waits for a thread, adds up: many large bodies would take all memory.

    max_bytes: of all bodies together, beyond the free bytes of each; asked anew each time. One body alone always fits.
    """

    def __init__(self, max_bytes: Callable[[], int]) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0

    @contextmanager
    def place(self) -> Iterator[BodyPlace]:
        """One body's, which is given back in the end at the latest."""
        place = BodyPlace(self)
        try:
            yield place
        finally:
            place.leave()


class BodyPlace:
    """What one body takes up."""

    def __init__(self, room: BodyRoom) -> None:
        self._room = room
        self._num_bytes = 0

    def grow(self, num_bytes: int) -> None:
        """The body has so many bytes by now.

        Raises:
            BodiesFull: the others leave it no room.
        """
        more, room = max(0, num_bytes - FREE_BYTES) - self._num_bytes, self._room
        is_alone = room.num_bytes == self._num_bytes
        if more > 0 and not is_alone and room.num_bytes + more > (max_bytes := room.max_bytes()):
            raise BodiesFull(max_bytes)
        room.num_bytes += more
        self._num_bytes += more

    def leave(self) -> None:
        """The body is gone."""
        self._room.num_bytes -= self._num_bytes
        self._num_bytes = 0
