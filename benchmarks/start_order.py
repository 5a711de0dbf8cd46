"""Owns what the headers of answers say about the order of starts, and counts inversions. Sends nothing.

An inversion is a grant to B while A, of a higher key, had been registered and could have been granted. Both instants
are on the queue's own clock: `key = alpha * priority - beta * arrival` gives the arrival back, and the wait leads from
there to the grant. The headers bound what can be told apart: keys have six decimals (a double near 1.7e8 has seven),
which is 5 microseconds of arrival either way at a beta of 0.1, and waits are in tenths of a millisecond. So of two
events one counts as the earlier only if more than a tenth of a millisecond lies between them. Grants of one decision
share their instant, and are not compared with each other; the service's own monitor sees those.
"""

from __future__ import annotations

import heapq
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

ALPHA = 1.0
BETA = 0.1
KEY_HEADER = "x-fastserve-key"
QUEUE_HEADER = "x-fastserve-queue-ms"
_KEY_RESOLUTION = 1e-6
RESOLUTION_S = 1.2e-4  # two waits, each to half a tenth of a millisecond, and two arrivals, each to five microseconds


class HeadersMissing(Exception):
    """An answer does not say when it was started, or under which key."""


@dataclass(frozen=True, slots=True)
class Start:
    """One request that was granted. Times in seconds, on the queue's clock."""

    key: float
    registered_s: float
    granted_s: float

    @classmethod
    def of(cls, priority: float, headers: Mapping[str, str]) -> Self:
        """headers: of its answer, by lower-case name.

        Raises:
            HeadersMissing: a header is not there, or no number.
        """
        key, queue_ms = (_number(headers, name) for name in (KEY_HEADER, QUEUE_HEADER))
        registered_s = (ALPHA * priority - key) / BETA
        return cls(key, registered_s, registered_s + queue_ms / 1000)


@dataclass(frozen=True, slots=True)
class Depth:
    """How many waited while a request was granted, itself not counted: what each grant was compared with."""

    median: float
    most: int


def num_inversions(starts: Iterable[Start], resolution_s: float = RESOLUTION_S) -> int:
    """Grants that passed over a better key which surely waited then; all requests must fit wherever one does.

    A sweep over the grants, with the best key of those who wait on top of a heap.
    """
    in_order = sorted(starts, key=lambda start: start.granted_s)
    arriving = sorted(in_order, key=lambda start: start.registered_s, reverse=True)
    waiting: list[tuple[float, float]] = []
    num_found = 0
    for start in in_order:
        while arriving and arriving[-1].registered_s < start.granted_s - resolution_s:
            came = arriving.pop()
            heapq.heappush(waiting, (-came.key, came.granted_s))
        while waiting and waiting[0][1] <= start.granted_s + resolution_s:
            heapq.heappop(waiting)
        num_found += bool(waiting) and -waiting[0][0] > start.key + _KEY_RESOLUTION
    return num_found


def depth(starts: Sequence[Start], resolution_s: float = RESOLUTION_S) -> Depth:
    registered_s = sorted(start.registered_s for start in starts)
    granted_s = sorted(start.granted_s for start in starts)
    waiting = [
        max(0, bisect_left(registered_s, at_s - resolution_s) - bisect_right(granted_s, at_s + resolution_s))
        for at_s in granted_s
    ]
    return Depth(statistics.median(waiting), max(waiting)) if waiting else Depth(0.0, 0)


def _number(headers: Mapping[str, str], name: str) -> float:
    try:
        return float(headers[name])
    except (KeyError, ValueError):
        raise HeadersMissing(f"{name}: expected a number, got {headers.get(name)!r}") from None
