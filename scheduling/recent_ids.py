"""Owns which ids were seen lately. Knows nothing of what they are of."""

from __future__ import annotations

from collections import OrderedDict


class RecentIds:
    """Remembers the ids that were added last, so that a message which comes late is known for one."""

    def __init__(self, max_remembered: int) -> None:
        self._max_remembered = max_remembered
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._ids

    def add(self, item_id: str) -> None:
        self._ids[item_id] = None
        self._ids.move_to_end(item_id)
        if len(self._ids) > self._max_remembered:
            self._ids.popitem(last=False)
