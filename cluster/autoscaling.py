"""Answers Ray Serve's question for the number of replicas with an `Autoscaler`. Knows no queue, and never waits.

Serve's controller asks several times a second, between its other work, and all of that stands still meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from scheduling.autoscaling import Autoscaler, ScalingDecision, ScalingLimits, ScalingLoad, ScalingReason

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

logger = logging.getLogger("ray.serve")

MAX_AGE_S = 15.0  # of a load that is decided from
ReadLoad = Callable[[float], ScalingLoad | None]


class ReplicaPolicy:
    """The policy of one deployment.

    read_load: the latest load of the model that is no older than so many seconds; never waits.
    """

    def __init__(self, limits: ScalingLimits, read_load: ReadLoad, clock: Callable[[], float] = time.monotonic) -> None:
        self._autoscaler = Autoscaler(limits)
        self._read_load = read_load
        self._clock = clock
        self._blind_from_s = clock() + MAX_AGE_S  # before that nothing can have been read
        self._is_blind = False
        self._said: ScalingDecision | None = None

    def num_replicas(self, context: AutoscalingContext) -> int:
        """How many replicas there should be. Serve holds it to its bounds, which stand in `context`."""
        self._take_bounds(context)
        load = self._read_load(MAX_AGE_S)
        if load is None and self._clock() < self._blind_from_s:
            return context.target_num_replicas
        self._say_if_blind(load is None, context)
        decision = self._by_counts(context) if load is None else self._by_load(load, context)
        if decision.num_replicas == 0 and context.total_num_requests > 0:
            decision = ScalingDecision(1, ScalingReason.COUNTS)  # at none, Serve would start one for them at once
        self._say_change(decision, context)
        return decision.num_replicas

    def _by_load(self, load: ScalingLoad, context: AutoscalingContext) -> ScalingDecision:
        """Serve knows which replicas are on their way; the queue only those that have come."""
        num_replicas = min(context.current_num_replicas, context.target_num_replicas)
        num_starting = context.target_num_replicas - num_replicas
        return self._autoscaler.decide(
            replace(load, num_replicas=num_replicas, num_starting=num_starting), self._clock()
        )

    def _by_counts(self, context: AutoscalingContext) -> ScalingDecision:
        assert context.config is not None, "Serve gives each policy its settings"
        return self._autoscaler.decide_by_counts(
            context.total_num_requests,
            context.config.get_target_ongoing_requests(),
            context.target_num_replicas,
            self._clock(),
        )

    def _take_bounds(self, context: AutoscalingContext) -> None:
        """They change with `target_capacity`."""
        least, most = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        limits = self._autoscaler.limits
        if (limits.min_replicas, limits.max_replicas) != (least, most):
            self._autoscaler.limits = replace(limits, min_replicas=least, max_replicas=max(1, most))

    def _say_change(self, decision: ScalingDecision, context: AutoscalingContext) -> None:
        """Once, also where Serve's bounds keep it from being made."""
        if decision.num_replicas != context.target_num_replicas and decision != self._said:
            logger.info("%s: replicas from %d to %s.", context.deployment_name, context.target_num_replicas, decision)
        self._said = decision

    def _say_if_blind(self, is_blind: bool, context: AutoscalingContext) -> None:
        """Once for each change."""
        if is_blind and not self._is_blind:
            logger.warning(
                "%s: its queue has told of no load for %g s, so that Serve's own counts of requests decide how many "
                "replicas there are.",
                context.deployment_name,
                MAX_AGE_S,
            )
        if self._is_blind and not is_blind:
            logger.info("%s: its queue tells of its load again.", context.deployment_name)
        self._is_blind = is_blind
