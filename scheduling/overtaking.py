"""Owns the promise about order: who may start before whom, and whether it was kept. Decides nothing itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from scheduling.request import Grant
from scheduling.score import ScorePolicy, Stamp

_ROUNDING_ULPS = 8


def overtaking_slack_s(starting: Stamp, waiting: Stamp, policy: ScorePolicy, margin: float = 0.0) -> float:
    """Seconds by which `starting` could have arrived later and still start before `waiting`.

    The right side less the left side of `a_j - a_i < (alpha/beta)(p_j - p_i) + pi_i - pi_j + margin/beta`, with `j`
    starting and `i` waiting; `margin` is in key units. Infinite when beta is 0: there is no bound then.
    """
    if policy.beta == 0:
        return math.inf
    head_start_s = policy.head_start_s(starting.priority - waiting.priority) + margin / policy.beta
    return head_start_s + waiting.penalty_s - starting.penalty_s - (starting.arrival_s - waiting.arrival_s)


def may_overtake(starting: Stamp, waiting: Stamp, policy: ScorePolicy, margin: float = 0.0) -> bool:
    """Whether `starting`, which arrived after `waiting`, may start before it."""
    return overtaking_slack_s(starting, waiting, policy, margin) > 0


class OvertakingMonitor:
    """Checks every grant against all who still wait, and remembers how close the bound came.

    It goes by arrivals and priorities alone and shares no code with the queue's order, so that it would notice a fault
    there.
    """

    def __init__(self) -> None:
        self.num_checked = 0
        self.num_violations = 0
        self.smallest_slack_s = math.inf

    def observe(self, grants: Sequence[Grant], waiting: Iterable[Stamp], margin: float = 0.0) -> None:
        """Takes one dispatch: its grants in their order, and the stamps of those who wait after it: O(both)."""
        if not grants or grants[0].policy.beta == 0:
            return
        policy = grants[0].policy
        most_overdue = _most_overdue(waiting, policy)
        for grant in reversed(grants):
            if most_overdue is not None:
                self._check(grant.stamp, most_overdue, policy, margin)
            rest = [grant.stamp] if most_overdue is None else [grant.stamp, most_overdue]
            most_overdue = _most_overdue(rest, policy)

    def _check(self, starting: Stamp, waiting: Stamp, policy: ScorePolicy, margin: float) -> None:
        slack_s = overtaking_slack_s(starting, waiting, policy, margin)
        self.num_checked += 1
        self.num_violations += slack_s < -_rounding_s(starting, waiting, policy)
        self.smallest_slack_s = min(self.smallest_slack_s, slack_s)


def _most_overdue(waiting: Iterable[Stamp], policy: ScorePolicy) -> Stamp | None:
    """The one against whom the slack of anybody else is smallest. Written out, as it runs over all who wait."""
    level_s = policy.head_start_s(1)
    return max(waiting, key=lambda s: level_s * s.priority - s.arrival_s - s.penalty_s, default=None)


def _rounding_s(one: Stamp, other: Stamp, policy: ScorePolicy) -> float:
    """What the rounding of two keys to floating point may cost, in seconds."""
    largest = max(
        max(abs(policy.alpha * stamp.priority), abs(policy.beta * stamp.effective_arrival_s)) for stamp in (one, other)
    )
    return _ROUNDING_ULPS * math.ulp(largest) / policy.beta
