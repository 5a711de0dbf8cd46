"""Owns a heap of ids that can be removed from the middle cheaply. Knows nothing of what the ids or positions mean."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

Position = tuple[float, ...]

_SLACK = 32


class LazyHeap:
    """Ids by position, the smallest first. A discarded id stays in the heap as garbage until it surfaces.

    Garbage never exceeds the live ids plus a constant: the heap is rebuilt then, so every operation is O(log n)
    amortised and memory stays proportional to what is live.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[Position, str]] = []
        self._live: dict[str, Position] = {}

    def __len__(self) -> int:
        return len(self._live)

    def push(self, item_id: str, position: Position) -> None:
        """Adds `item_id`, or moves it to `position`."""
        if self._live.get(item_id) == position:
            return
        self._live[item_id] = position
        heapq.heappush(self._heap, (position, item_id))
        self._bound_garbage()

    def discard(self, item_id: str) -> None:
        """Removes `item_id`; an unknown id is fine."""
        if self._live.pop(item_id, None) is not None:
            self._bound_garbage()

    def first(self) -> str | None:
        """The id with the smallest position."""
        self._drop_garbage()
        return self._heap[0][1] if self._heap else None

    def first_position(self) -> Position | None:
        self._drop_garbage()
        return self._heap[0][0] if self._heap else None

    def in_order(self) -> Iterator[tuple[Position, str]]:
        """The smallest positions first, found one after another: nothing may be added or removed meanwhile."""
        frontier = [(self._heap[0], 0)] if self._heap else []
        before: tuple[Position, str] | None = None  # one that was moved away and back stands there twice
        while frontier:
            entry, place = heapq.heappop(frontier)
            children = range(2 * place + 1, min(2 * place + 3, len(self._heap)))
            for child in children:
                heapq.heappush(frontier, (self._heap[child], child))
            if entry != before and self._live.get(entry[1]) == entry[0]:
                before = entry
                yield entry

    def pop_up_to(self, limit: Position) -> list[str]:
        """Removes and returns, in order, all ids whose position is at most `limit`."""
        due = []
        while (position := self.first_position()) is not None and position <= limit:
            _, item_id = heapq.heappop(self._heap)
            del self._live[item_id]
            due.append(item_id)
        return due

    def _drop_garbage(self) -> None:
        while self._heap and self._live.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)

    def _bound_garbage(self) -> None:
        if not self._live:
            self._heap.clear()
        elif len(self._heap) > 2 * len(self._live) + _SLACK:
            self._heap = [(position, item_id) for item_id, position in self._live.items()]
            heapq.heapify(self._heap)
