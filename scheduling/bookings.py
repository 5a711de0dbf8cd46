"""Owns what refused clients were promised: when each may come back, and that it will be let in. Knows no queue."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from scheduling.faded import FadedMean
from scheduling.lazy_heap import LazyHeap

MAX_BOOKINGS = 8_192
EARLY_S = 1.0  # a client that comes so much before its time is let in
LATE_S = 5.0  # and so much after it, and as a share of what it was told:
LATE_SHARE = 0.1
_REMEMBERED = 64
_GRAINS_OF_A_WAIT = 8


@dataclass(frozen=True, slots=True)
class Identity:
    """What a request has in common with itself when it comes back: nothing in it names the first attempt."""

    tenant: str
    priority: float
    content: str
    max_output_tokens: int


@dataclass(frozen=True, slots=True)
class _Booking:
    """counts_from_s: the time that it is due, rounded down: those far off are counted together."""

    identity: Identity
    due_s: float
    counts_from_s: int
    num_tokens: int


@dataclass(slots=True)
class _Promised:
    """How many places, and tokens: in all, and by when they are due, not to the second."""

    number: int = 0
    num_tokens: int = 0
    by_due: dict[int, int] = field(default_factory=dict)

    def count(self, booking: _Booking, sign: int) -> None:
        self.number += sign
        self.num_tokens += sign * booking.num_tokens
        left = self.by_due.get(booking.counts_from_s, 0) + sign * booking.num_tokens
        if left:
            self.by_due[booking.counts_from_s] = left
        else:
            self.by_due.pop(booking.counts_from_s, None)


class Bookings:
    """A place in the queue for each client that was told when to come back.

    Whoever comes at that time is let in, so that the answer turns out right; whoever does not, loses the place. What is
    promised counts, for those who come anew, by the share of clients that lately came back. Priorities count by their
    whole levels: a client may send any number, and what there is to add up must not grow with that.
    """

    def __init__(self) -> None:
        self._bookings: dict[str, _Booking] = {}  # by number
        self._due: dict[Identity, LazyHeap] = {}  # their numbers, the earliest first
        self._ends = LazyHeap()
        self._promised: dict[str, dict[int, _Promised]] = {}  # by tenant and whole level of priority
        self._num_made = 0
        self._share_kept = FadedMean(_REMEMBERED, first=1.0)

    def __len__(self) -> int:
        return len(self._bookings)

    def num_from(self, tenant: str, priority: float) -> float:
        """How many of this tenant and of this priority or above are likely to come back."""
        return sum(each.number for each in self._from(tenant, priority)) * self._share_kept.value

    def num_tokens_from(self, tenant: str, priority: float) -> float:
        """Their tokens."""
        return sum(each.num_tokens for each in self._from(tenant, priority)) * self._share_kept.value

    def num_tokens_in_the_way(self, tenant: str, priority: float, tokens_per_s: float, now_s: float) -> float:
        """Of those tokens, as many as a newcomer must wait for, so that nobody is late who comes when it was told to.

        Of higher levels, all. Of its own, whoever comes back is behind it, and what is served until then, at
        `tokens_per_s`, is out of the way: what counts is the most that would be left when any of them is due.
        """
        own = self._promised.get(tenant, {}).get(math.floor(priority), _Promised())
        share, before, most = self._share_kept.value, 0.0, 0.0
        for counts_from_s, num_tokens in sorted(own.by_due.items()):
            before += share * num_tokens
            most = max(most, before - tokens_per_s * max(0.0, counts_from_s - now_s))
        return self.num_tokens_from(tenant, priority) - share * own.num_tokens + most

    def make(self, identity: Identity, wait_s: float, num_tokens: int, now_s: float) -> None:
        """The client was told to come back after `wait_s`. Without a place to be promised nothing is."""
        self.expire(now_s)
        if len(self) >= MAX_BOOKINGS:
            return
        self._num_made += 1
        number, due_s = str(self._num_made), now_s + wait_s
        booking = _Booking(identity, due_s, _rounded_down(due_s, wait_s), num_tokens)
        self._bookings[number] = booking
        self._due.setdefault(identity, LazyHeap()).push(number, (due_s,))
        self._ends.push(number, (due_s + LATE_S + LATE_SHARE * wait_s,))
        self._count(booking, 1)

    def claim(self, identity: Identity, now_s: float, *, is_with_another: bool = False) -> bool:
        """Whether this client was promised a place by now; the promise is kept once.

        is_with_another: it comes with one that was, so that its own place may be due later.
        """
        self.expire(now_s)
        first = self._due[identity].first() if identity in self._due else None
        if first is None or (self._bookings[first].due_s - EARLY_S > now_s and not is_with_another):
            return False
        self._drop(first)
        self._share_kept.observe(1.0)
        return True

    def expire(self, now_s: float) -> None:
        """Those who did not come in time have lost their places."""
        for number in self._ends.pop_up_to((now_s,)):
            self._drop(number)
            self._share_kept.observe(0.0)

    def _drop(self, number: str) -> None:
        booking = self._bookings.pop(number)
        due = self._due[booking.identity]
        due.discard(number)
        if not len(due):
            del self._due[booking.identity]
        self._ends.discard(number)
        self._count(booking, -1)

    def _from(self, tenant: str, priority: float) -> list[_Promised]:
        lowest = math.floor(priority)
        return [promised for level, promised in self._promised.get(tenant, {}).items() if level >= lowest]

    def _count(self, booking: _Booking, sign: int) -> None:
        identity = booking.identity
        levels, level = self._promised.setdefault(identity.tenant, {}), math.floor(identity.priority)
        promised = levels.setdefault(level, _Promised())
        promised.count(booking, sign)
        if not promised.number:
            del levels[level]
        if not levels:
            del self._promised[identity.tenant]


def _rounded_down(due_s: float, wait_s: float) -> int:
    """To seconds, or to a power of two of them that is an eighth of the wait at most: so that times are few."""
    grain_s = 1 << math.floor(math.log2(max(1.0, wait_s / _GRAINS_OF_A_WAIT)))
    return math.floor(due_s / grain_s) * grain_s
