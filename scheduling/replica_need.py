"""Owns how many replicas a load needs at this moment. Remembers nothing, and knows no clock.

A class needs so many that its backlog drains within its objective, once those that would be started now are there. To
be kept, a replica has to be missed by more than a margin: without it, the others would be too full.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scheduling.scaling_load import ClassLoad, ScalingLoad

_ROUNDING = 1e-9  # of a replica
_MOST = 1_000_000  # no need is larger, so that none is infinite


class ScalingReason(enum.StrEnum):
    """Why there should be so many replicas."""

    BACKLOG = "what waits would outlast its objective"
    LATE = "somebody waits for longer than the objective allows, and no rate is measured yet"
    SOMETHING_WAITS = "something waits"
    SHEDDABLE = "more would be for traffic below priority 0 alone"
    IN_USE = "fewer would be too full"
    UNMEASURED = "something waits, and no rate is measured yet"
    HELD = "as many were needed not long ago"
    SPARE = "fewer have been enough for long"
    IDLE = "nothing came for long"
    COUNTS = "by Serve's own counts of requests"


@dataclass(frozen=True, slots=True)
class ReplicaNeed:
    """service_class: the one that decided; None where not one did."""

    num_replicas: int
    reason: ScalingReason
    service_class: str | None = None


@dataclass(frozen=True, slots=True)
class NeedRules:
    """max_replicas_for_sheddable: as many replicas may traffic below priority 0 have for itself.

    startup_s: what a replica takes to start. starting_within_s: those that start now need no longer for the rest of it.
    margin: the share of what replicas can do that may be used for fewer of them to be enough.
    """

    max_replicas_for_sheddable: int
    startup_s: float
    starting_within_s: float
    margin: float


def replica_need(load: ScalingLoad, rules: NeedRules) -> ReplicaNeed:
    """How many replicas the load needs. Traffic below priority 0 adds none beyond its own limit."""
    if load.is_idle:
        return ReplicaNeed(0, ScalingReason.IDLE)
    essential = _need([one for one in load.classes if not one.is_sheddable], load, rules)
    overall = _need(load.classes, load, rules)
    if overall.num_replicas > rules.max_replicas_for_sheddable:
        overall = replace(
            overall, num_replicas=rules.max_replicas_for_sheddable, reason=ScalingReason.SHEDDABLE, service_class=None
        )
    decisive = essential if essential.num_replicas >= overall.num_replicas else overall
    return decisive if decisive.num_replicas else ReplicaNeed(1, ScalingReason.SOMETHING_WAITS)


def _need(classes: Sequence[ClassLoad], load: ScalingLoad, rules: NeedRules) -> ReplicaNeed:
    """What these classes need: more than there are, or as many of those as would be missed."""
    more = [need for one in classes if one.num_waiting and (need := _more(one, load, rules)) is not None]
    if more:
        return max(more, key=lambda need: need.num_replicas)
    if load.tokens_per_s is None and any(one.num_waiting for one in classes):
        return ReplicaNeed(load.num_ordered, ScalingReason.UNMEASURED)
    return ReplicaNeed(min(load.num_ordered, _missed(classes, load, rules.margin)), ScalingReason.IN_USE)


def _more(waiting: ClassLoad, load: ScalingLoad, rules: NeedRules) -> ReplicaNeed | None:
    """More replicas than are ordered, where the class needs them."""
    if load.tokens_per_s is None:
        is_stuck = waiting.is_late and load.num_replicas and not load.num_starting
        return ReplicaNeed(load.num_ordered + 1, ScalingReason.LATE, waiting.name) if is_stuck else None
    if waiting.objective_s is None:
        return None
    served_in_time = waiting.objective_s * load.tokens_per_s
    num_replicas = _rounded_up(_tokens_ahead_then(waiting, load, rules) / served_in_time)
    return ReplicaNeed(num_replicas, ScalingReason.BACKLOG, waiting.name) if num_replicas > load.num_ordered else None


def _tokens_ahead_then(waiting: ClassLoad, load: ScalingLoad, rules: NeedRules) -> float:
    """What lies before the last in line when a replica that is ordered now has started."""
    assert load.tokens_per_s is not None
    arriving = load.arriving_before(waiting) * rules.startup_s
    replica_seconds = load.num_replicas * rules.startup_s
    replica_seconds += load.num_starting * (rules.startup_s - rules.starting_within_s)
    return max(0.0, waiting.tokens_ahead + arriving - replica_seconds * load.tokens_per_s)


def _missed(classes: Sequence[ClassLoad], load: ScalingLoad, margin: float) -> int:
    """So many replicas hold what runs, serve what arrives and drain what waits in time, with room to spare."""
    shares = [_share(sum(one.num_running for one in classes), load.max_num_seqs)]
    shares.append(_share(sum(one.tokens_running for one in classes), load.kv_tokens))
    shares.append(_share(sum(one.arriving_tokens_per_s for one in classes), load.tokens_per_s))
    if load.tokens_per_s is not None:
        waiting = (one for one in classes if one.num_waiting and one.objective_s is not None)
        shares += [one.tokens_ahead / (one.objective_s or math.inf) / load.tokens_per_s for one in waiting]
    return _rounded_up(max(shares) / margin)


def _share(amount: float, of_one_replica: float | None) -> float:
    """Of how many replicas this takes all; 0 where it is not known what one can do."""
    return 0.0 if of_one_replica is None else amount / of_one_replica


def _rounded_up(num_replicas: float) -> int:
    return math.ceil(min(num_replicas, _MOST) - _ROUNDING)
