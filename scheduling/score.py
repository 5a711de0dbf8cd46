"""Owns the score: how priority and waiting become one static sort key. Knows nothing of queues, tenants or clocks."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stamp:
    """What fixes a request's place for good. Stamped once, by the queue; failover and preemption keep it.

    priority: higher runs sooner.
    arrival_s: the queue's own non-decreasing wall clock, in seconds since the Unix epoch.
    penalty_s: the fairness penalty, in seconds, frozen at stamping; never negative.

    Raises:
        ValueError: a field is infinite or not a number, or the penalty is negative. Such a stamp has no place.
    """

    priority: float
    arrival_s: float
    penalty_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("priority", "arrival_s", "penalty_s"):
            _require_finite(name, getattr(self, name))
        if self.penalty_s < 0:
            raise ValueError(f"penalty_s: expected at least 0, got {self.penalty_s!r}")

    @property
    def effective_arrival_s(self) -> float:
        return self.arrival_s + self.penalty_s


@dataclass(frozen=True, slots=True)
class ScorePolicy:
    """The score `s = alpha * priority + beta * waiting_time`, as a key that does not change while a request waits.

    With one beta for all, `s` of two waiting requests differs by a constant, so
    `key = alpha * priority - beta * effective_arrival_s` orders them exactly. A new alpha or beta is a new epoch;
    whoever holds requests re-keys them then.

    Raises:
        ValueError: a weight is negative, infinite or not a number, or both are zero.
    """

    alpha: float = 1.0
    beta: float = 0.1
    epoch: int = 0

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            _require_finite(name, value)
            if value < 0:
                raise ValueError(f"{name}: expected at least 0, got {value!r}")
        if self.alpha == 0 and self.beta == 0:
            raise ValueError("alpha and beta: at least one must be above 0, got 0 and 0")

    def key(self, stamp: Stamp) -> float:
        """The sort key; the higher key runs sooner."""
        return self.alpha * stamp.priority - self.beta * stamp.effective_arrival_s

    def line_key(self, stamp: Stamp) -> float:
        """The key within one tenant, where penalties play no part."""
        return self.alpha * stamp.priority - self.beta * stamp.arrival_s

    def turn_key(self, stamp: Stamp, tag_s: float) -> float:
        """The key between tenants: a head's priority against the service that its tenant has had, as a time."""
        return self.alpha * stamp.priority - self.beta * tag_s

    def margin(self, levels: float) -> float:
        """What so many levels of priority are worth, in key units."""
        return self.alpha * levels

    def score(self, stamp: Stamp, now_s: float) -> float:
        """`alpha * priority + beta * waiting_time` at `now_s`: what the key is a shifted copy of."""
        return self.alpha * stamp.priority + self.beta * (now_s - stamp.effective_arrival_s)

    def head_start_s(self, levels: float) -> float:
        """How many seconds earlier `levels` of priority are worth.

        Negative for negative levels. When beta is 0 waiting counts for nothing: any level is worth for ever.
        """
        if levels == 0 or self.alpha == 0:
            return 0.0
        return math.copysign(math.inf, levels) if self.beta == 0 else self.alpha / self.beta * levels

    def has_weights_of(self, other: ScorePolicy) -> bool:
        """Whether both order every pair of requests alike by construction, whatever their epochs."""
        return (self.alpha, self.beta) == (other.alpha, other.beta)


def _require_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")
