"""Decides how many replicas of a model there should be. Knows nothing of Ray, of queues or of clocks: time comes in.

More at once, when they would come in time to help; fewer only when fewer have been enough for a whole window, which is
longer than a replica takes to start. A load that comes and goes within the window keeps the replicas of its peak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scheduling.peak_window import PeakWindow
from scheduling.replica_need import NeedRules, ReplicaNeed, ScalingReason, replica_need
from scheduling.scaling_load import ClassLoad, ScalingLoad

__all__ = ["Autoscaler", "ClassLoad", "ScalingDecision", "ScalingLimits", "ScalingLoad", "ScalingReason"]

_STARTUPS_IN_WINDOW = 2.0  # the window is never shorter than so many starts of a replica


@dataclass(frozen=True, slots=True)
class ScalingLimits:
    """What an operator allows.

    max_replicas_for_sheddable: traffic below priority 0 alone adds no replica beyond so many.
    downscale_window_s: fewer replicas must have been enough for so long. idle_window_s: nothing must have come for so
        long before the last replica goes.
    margin: the share of what replicas can do that may be used for fewer of them to be enough.
    assumed_startup_s: what a replica takes to start, until one was seen to.

    Raises:
        ValueError: a limit is below what it can be, infinite or not a number.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    max_replicas_for_sheddable: int = 1
    downscale_window_s: float = 300.0
    idle_window_s: float = 900.0
    margin: float = 0.8
    assumed_startup_s: float = 30.0

    def __post_init__(self) -> None:
        for name, least in (
            ("min_replicas", 0),
            ("max_replicas", max(1, self.min_replicas)),
            ("max_replicas_for_sheddable", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)!r}")
        for name in ("downscale_window_s", "idle_window_s", "assumed_startup_s"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}: expected a finite number of seconds of at least 0, got {value!r}")
        if not 0 < self.margin <= 1:
            raise ValueError(f"margin: expected more than 0 and at most 1, got {self.margin!r}")

    def within(self, num_replicas: int) -> int:
        return max(self.min_replicas, min(self.max_replicas, num_replicas))


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """So many replicas there should be. service_class: the one that decided; None where not one did."""

    num_replicas: int
    reason: ScalingReason
    service_class: str | None = None

    def __str__(self) -> str:
        of_class = "" if self.service_class is None else f" (class {self.service_class})"
        return f"{self.num_replicas}: {self.reason}{of_class}"


class Autoscaler:
    """Remembers what was needed lately. `now_s` never runs back; `limits` may be set anew at any time."""

    def __init__(self, limits: ScalingLimits) -> None:
        self.limits = limits
        self._needed = PeakWindow()
        self._ordered_s = -math.inf  # when replicas were last added

    def decide(self, load: ScalingLoad, now_s: float) -> ScalingDecision:
        """How many replicas there should be for this load."""
        startup_s = self._startup_s(load)
        rules = NeedRules(
            max_replicas_for_sheddable=self.limits.max_replicas_for_sheddable,
            startup_s=startup_s,
            starting_within_s=max(0.0, startup_s - (now_s - self._ordered_s)),
            margin=self.limits.margin,
        )
        return self._settle(replica_need(load, rules), load.num_ordered, startup_s, now_s)

    def decide_by_counts(
        self, num_requests: float, requests_per_replica: float, num_ordered: int, now_s: float
    ) -> ScalingDecision:
        """The same where there are only counts of requests, waiting and running, of whatever class.

        All of them may be sheddable, so that no more replicas are added for them than sheddable traffic may have.

        Raises:
            ValueError: a count is negative, infinite or not a number, or `requests_per_replica` is not above 0.
        """
        if not 0 <= num_requests < math.inf:
            raise ValueError(f"num_requests: expected a finite number of at least 0, got {num_requests!r}")
        if not 0 < requests_per_replica < math.inf:
            raise ValueError(f"requests_per_replica: expected a finite number above 0, got {requests_per_replica!r}")
        most = max(num_ordered, self.limits.max_replicas_for_sheddable)
        need = ReplicaNeed(min(most, math.ceil(num_requests / requests_per_replica)), ScalingReason.COUNTS)
        return self._settle(need, num_ordered, self.limits.assumed_startup_s, now_s)

    def _settle(self, need: ReplicaNeed, num_ordered: int, startup_s: float, now_s: float) -> ScalingDecision:
        """As many as are needed, or as were lately."""
        needed = self.limits.within(need.num_replicas)
        if not self._needed:
            self._needed.see(num_ordered, now_s)  # nothing is known of before: it may have been needed until now
        self._needed.see(needed, now_s)
        if needed >= num_ordered:
            self._ordered_s = now_s if needed > num_ordered else self._ordered_s
            return ScalingDecision(needed, need.reason, need.service_class)
        return self._fewer(num_ordered, startup_s, now_s)

    def _fewer(self, num_ordered: int, startup_s: float, now_s: float) -> ScalingDecision:
        """As few as were enough for the whole of the window; the last one goes after a window of its own."""
        window_s = max(self.limits.downscale_window_s, _STARTUPS_IN_WINDOW * startup_s)
        idle_window_s = max(self.limits.idle_window_s, _STARTUPS_IN_WINDOW * startup_s)
        enough = min(num_ordered, self.limits.within(self._needed.peak_since(now_s - window_s)))
        if enough == 0 and self._needed.peak_since(now_s - idle_window_s) > 0:
            enough = 1
        self._needed.forget_before(now_s - max(window_s, idle_window_s))
        if enough == num_ordered:
            return ScalingDecision(num_ordered, ScalingReason.HELD)
        return ScalingDecision(enough, ScalingReason.IDLE if enough == 0 else ScalingReason.SPARE)

    def _startup_s(self, load: ScalingLoad) -> float:
        return self.limits.assumed_startup_s if load.startup_s is None else load.startup_s
