"""Owns the promise about order: who may start before whom, and whether it was kept. Decides nothing itself."""

from __future__ import annotations

import math
from collections.abc import Callable

from scheduling.lazy_heap import LazyHeap
from scheduling.score import ScorePolicy, Stamp

_ROUNDING_ULPS = 8


def overtaking_slack_s(starting: Stamp, waiting: Stamp, policy: ScorePolicy, margin: float = 0.0) -> float:
    """Seconds by which `starting` could have arrived later and still start before `waiting`.

    The right side less the left side of `a_j - a_i < (alpha/beta)(p_j - p_i) + pi_i - pi_j + margin/beta`, with `j`
    starting and `i` waiting; `margin` is in key units. Infinite where the policy gives no bound, as with a beta of 0.
    """
    if not policy.bounds_overtaking:
        return math.inf
    later_s = starting.effective_arrival_s - waiting.effective_arrival_s
    return _slack_s(starting.priority - waiting.priority, later_s, policy) + margin / _key_per_s(policy)


def may_overtake(starting: Stamp, waiting: Stamp, policy: ScorePolicy, margin: float = 0.0) -> bool:
    """Whether `starting`, which arrived after `waiting`, may start before it."""
    return overtaking_slack_s(starting, waiting, policy, margin) > 0


class OvertakingMonitor:
    """Checks every grant against all who still wait, and remembers how close the bound came.

    Of one tenant, whoever starts is compared by arrivals and priorities. Between tenants the services count that they
    have had instead of the arrivals: `tag_j - tag_i < (alpha/beta)(p_j - p_i)`, with the tags as times (see
    `TenantTurns`). It keeps its own account of who waits and shares no key with the queue, so that it would notice a
    fault there.
    """

    def __init__(self, policy: ScorePolicy) -> None:
        self.num_checked = 0
        self.num_violations = 0
        self.smallest_slack_s = math.inf
        self._policy = policy
        self._waiting: dict[str, tuple[str, Stamp]] = {}  # tenant and stamp of each lease id
        self._most_overdue: dict[str, LazyHeap] = {}

    def entered(self, lease_id: str, tenant: str, stamp: Stamp) -> None:
        """Somebody waits, for the first time or again."""
        self._waiting[lease_id] = (tenant, stamp)
        self._index(lease_id)

    def left(self, lease_id: str) -> None:
        """Somebody waits no more, for whatever reason; an unknown id is fine."""
        if (entry := self._waiting.pop(lease_id, None)) is not None:
            self._most_overdue[entry[0]].discard(lease_id)
            if not len(self._most_overdue[entry[0]]):
                del self._most_overdue[entry[0]]

    def started(self, tenant: str, stamp: Stamp, tag_s: Callable[[str], float]) -> None:
        """Somebody who has left starts now. tag_s: each tenant's tag as a time, as it stood when this was decided."""
        if not self._policy.bounds_overtaking:
            return
        for other, overdue in self._most_overdue.items():
            first = overdue.first()
            assert first is not None, f"tenant {other!r} waits with nobody"
            waiting = self._waiting[first][1]
            if other == tenant:
                self._check(stamp.priority, stamp.arrival_s, waiting.priority, waiting.arrival_s)
            else:
                self._check(stamp.priority, tag_s(tenant), waiting.priority, tag_s(other))

    def rekey(self, policy: ScorePolicy) -> None:
        """Other weights are in force."""
        self._policy = policy
        self._most_overdue.clear()
        for lease_id in self._waiting:
            self._index(lease_id)

    def _index(self, lease_id: str) -> None:
        tenant, stamp = self._waiting[lease_id]
        level_s = self._policy.head_start_s(1)
        due_s = stamp.arrival_s - level_s * stamp.priority if math.isfinite(level_s) else stamp.arrival_s
        self._most_overdue.setdefault(tenant, LazyHeap()).push(lease_id, (due_s,))

    def _check(self, priority: float, since_s: float, waiting_priority: float, waiting_since_s: float) -> None:
        """One that starts against one that waits. since_s: its arrival, or its tenant's tag as a time."""
        slack_s = _slack_s(priority - waiting_priority, since_s - waiting_since_s, self._policy)
        self.num_checked += 1
        if slack_s < self.smallest_slack_s:
            self.smallest_slack_s = slack_s
        if slack_s < 0:
            largest = (max(abs(priority), abs(waiting_priority)), max(abs(since_s), abs(waiting_since_s)))
            self.num_violations += slack_s < -_rounding_s(*largest, self._policy)


def _slack_s(num_levels: float, later_s: float, policy: ScorePolicy) -> float:
    """What is left of the head start of so many levels when it came so much later."""
    return policy.head_start_s(num_levels) - later_s


def _rounding_s(priority: float, since_s: float, policy: ScorePolicy) -> float:
    """What the rounding of keys of this size to floating point may cost, in seconds."""
    largest = max(abs(policy.alpha * priority), abs(policy.beta * since_s))
    return _ROUNDING_ULPS * math.ulp(largest) / _key_per_s(policy)


def _key_per_s(policy: ScorePolicy) -> float:
    """What a second of waiting is worth, in key units."""
    return 1.0 if policy.name == "fcfs" else policy.beta
