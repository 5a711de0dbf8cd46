"""Owns the order's policies: how a stamp becomes one sort key. Knows nothing of queues, tenants or clocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

PolicyName = Literal["aged", "fcfs", "strict", "hrrn", "sjf", "skip_join_mlfq"]


@dataclass(frozen=True, slots=True)
class Stamp:
    """What fixes a request's place for good. Stamped once, by the queue; failover and preemption keep it.

    priority: higher runs sooner.
    arrival_s: the queue's own non-decreasing wall clock, in seconds since the Unix epoch.
    penalty_s: the fairness penalty, in seconds, frozen when it is granted; never negative.
    num_tokens: what it was expected to come to on arrival, prompt and answer; for orders that go by length.
    level: of a multi-level feedback queue, 0 the best; it changes with what the request is served.

    Raises:
        ValueError: a field is infinite or not a number, or the penalty is negative. Such a stamp has no place.
    """

    priority: float
    arrival_s: float
    penalty_s: float = 0.0
    num_tokens: int = 0
    level: int = 0

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
    """Which request runs sooner, by one sort key; the higher runs sooner, equal ones by arrival.

    aged: the score `s = alpha * priority + beta * waiting_time`. With one beta for all, `s` of two waiting requests
        differs by a constant, so `key = alpha * priority - beta * effective_arrival_s` orders them exactly.
    fcfs: first come, first served. strict: by priority alone. Neither knows of the other's measure.
    sjf: the shortest first, by expected tokens.
    hrrn: the highest response ratio next, which is one more than wait over length. Not static: whoever holds requests
        keys them anew (`as_of`) before each choice.
    skip_join_mlfq: Wu et al., "Fast Distributed Inference Serving for Large Language Models", 2023. A request joins the
        first level whose quantum covers its prompt, falls by a level whenever it has used its quantum, and returns to
        the best when it has waited for `promote_after_s`. Not static: a request is keyed anew when its level changes.

    fcfs, sjf and hrrn take no place away from whoever runs. A new policy is a new epoch; whoever holds requests re-keys
    them then.

    quantum_tokens: of the best level; each other has twice that of the one above it.

    Raises:
        ValueError: a weight is negative, infinite or not a number, both are zero, or another figure is not above 0.
    """

    alpha: float = 1.0
    beta: float = 0.1
    epoch: int = 0
    name: PolicyName = "aged"
    quantum_tokens: int = 256
    promote_after_s: float = 30.0
    as_of_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            _require_finite(name, value)
            if value < 0:
                raise ValueError(f"{name}: expected at least 0, got {value!r}")
        if self.alpha == 0 and self.beta == 0:
            raise ValueError("alpha and beta: at least one must be above 0, got 0 and 0")
        for name in ("quantum_tokens", "promote_after_s"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name}: expected a finite number above 0, got {getattr(self, name)!r}")
        if self.name not in _RULES:
            raise ValueError(f"policy: expected one of {', '.join(_RULES)}, got {self.name!r}")

    def key(self, stamp: Stamp) -> float:
        """The sort key, with the fairness penalty in it; the higher key runs sooner."""
        return self.key_with(stamp, stamp.penalty_s)

    def key_with(self, stamp: Stamp, penalty_s: float) -> float:
        """The sort key that it would have with this penalty, whatever its own."""
        return _RULES[self.name].key(self, stamp, stamp.arrival_s + penalty_s)

    def line_key(self, stamp: Stamp) -> float:
        """The key within one tenant, where penalties play no part."""
        return _RULES[self.name].key(self, stamp, stamp.arrival_s)

    def turn_key(self, stamp: Stamp, tag_s: float) -> float:
        """The key between tenants: a head's priority against the service that its tenant has had, as a time.

        Priority counts where the policy knows it; otherwise the service alone does.
        """
        return _RULES[self.name].turn(self, stamp, tag_s)

    def margin(self, levels: float) -> float:
        """By how much a key must be higher to take a place away, in key units; infinite where none may be taken.

        levels: of priority, as configured.
        """
        return _RULES[self.name].margin(self, levels)

    @property
    def grain(self) -> float:
        """A difference between keys that hardly matters: what arrives within a second, or a tenth of a level."""
        return _RULES[self.name].grain(self)

    @property
    def bounds_overtaking(self) -> bool:
        """Whether nobody is overtaken by whoever came late enough."""
        return self.name == "fcfs" or (self.name == "aged" and self.beta > 0)

    @property
    def ages(self) -> bool:
        """Whether keys must be worked out anew as time passes; see `as_of`."""
        return self.name == "hrrn"

    @property
    def goes_by_length(self) -> bool:
        """Whether a stamp must say what the request is expected to come to."""
        return self.name in ("sjf", "hrrn")

    @property
    def has_levels(self) -> bool:
        """Whether requests change their levels; see `first_level` and `quantum`."""
        return self.name == "skip_join_mlfq"

    def as_of(self, now_s: float) -> ScorePolicy:
        """The same policy for choices that are made now."""
        return replace(self, as_of_s=now_s)

    def first_level(self, num_prompt_tokens: int) -> int:
        """The best level whose quantum covers the prompt."""
        return max(0, math.ceil(math.log2(max(1, num_prompt_tokens) / self.quantum_tokens))) if self.has_levels else 0

    def quantum(self, level: int) -> int:
        """Tokens that may be computed at a level before the next one down."""
        return self.quantum_tokens << level

    def score(self, stamp: Stamp, now_s: float) -> float:
        """`alpha * priority + beta * waiting_time` at `now_s`: what the key of `aged` is a shifted copy of."""
        return self.alpha * stamp.priority + self.beta * (now_s - stamp.effective_arrival_s)

    def head_start_s(self, levels: float) -> float:
        """How many seconds earlier `levels` of priority are worth.

        Negative for negative levels. When waiting counts for nothing, any level is worth for ever.
        """
        if levels == 0 or self.alpha == 0 or self.name == "fcfs":
            return 0.0
        return self.alpha / self.beta * levels if self.bounds_overtaking else math.copysign(math.inf, levels)

    def overtakes_for_s(self, levels: float) -> float:
        """For how much of its wait a request is overtaken by those who come later, `levels` of priority above it."""
        return max(0.0, self.head_start_s(levels)) if self.name in ("aged", "strict") else 0.0

    def has_weights_of(self, other: ScorePolicy) -> bool:
        """Whether both order every pair of requests alike by construction, whatever their epochs."""
        return replace(self, epoch=0, as_of_s=0.0) == replace(other, epoch=0, as_of_s=0.0)


class _Rule(NamedTuple):
    """One policy. key: of a stamp, with the arrival that counts. turn, margin, grain: as in `ScorePolicy`."""

    key: Callable[[ScorePolicy, Stamp, float], float]
    turn: Callable[[ScorePolicy, Stamp, float], float]
    margin: Callable[[ScorePolicy, float], float]
    grain: Callable[[ScorePolicy], float]


def _by_service(policy: ScorePolicy, stamp: Stamp, tag_s: float) -> float:
    return -tag_s


def _takes_no_place(policy: ScorePolicy, levels: float) -> float:
    return math.inf


_RULES: dict[str, _Rule] = {
    "aged": _Rule(
        key=lambda policy, stamp, arrival_s: policy.alpha * stamp.priority - policy.beta * arrival_s,
        turn=lambda policy, stamp, tag_s: policy.alpha * stamp.priority - policy.beta * tag_s,
        margin=lambda policy, levels: policy.alpha * levels,
        grain=lambda policy: policy.beta or policy.alpha / 10,
    ),
    "fcfs": _Rule(
        key=lambda policy, stamp, arrival_s: -arrival_s,
        turn=_by_service,
        margin=_takes_no_place,
        grain=lambda policy: 1.0,
    ),
    "strict": _Rule(
        key=lambda policy, stamp, arrival_s: stamp.priority,
        turn=lambda policy, stamp, tag_s: stamp.priority,
        margin=lambda policy, levels: levels,
        grain=lambda policy: 0.1,
    ),
    "hrrn": _Rule(
        key=lambda policy, stamp, arrival_s: (policy.as_of_s - arrival_s) / max(1, stamp.num_tokens),
        turn=_by_service,
        margin=_takes_no_place,
        grain=lambda policy: 0.01,
    ),
    "sjf": _Rule(
        key=lambda policy, stamp, arrival_s: -float(stamp.num_tokens),
        turn=_by_service,
        margin=_takes_no_place,
        grain=lambda policy: 16.0,
    ),
    "skip_join_mlfq": _Rule(
        key=lambda policy, stamp, arrival_s: -float(stamp.level),
        turn=_by_service,
        margin=lambda policy, levels: 0.0,
        grain=lambda policy: 1.0,
    ),
}


def _require_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")
