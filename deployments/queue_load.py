"""Asks the queue in charge of a model for its load, again and again. Knows nothing of what is decided from it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import ray

from deployments.deployment_actors import QUEUE, find_in_charge
from scheduling.scaling_load import ScalingLoad

ANSWER_S = 5.0


class QueueLoad:
    """Blocks, so it is called in a thread of its own, one call at a time.

    find: looks for the queue in charge; None while there is none. get: waits for what a call of an actor gives.
    """

    def __init__(self, find: Callable[[], Any | None], get: Callable[..., Any] = ray.get) -> None:
        self._find = find
        self._get = get
        self._queue: Any | None = None

    @classmethod
    def of(cls, app_name: str, deployment_name: str) -> QueueLoad:
        return cls(partial(find_in_charge, app_name, deployment_name, QUEUE))

    def __call__(self) -> ScalingLoad | None:
        """The load now; None while there is no queue in charge.

        Raises:
            CLUSTER_ERRORS: the queue cannot be asked now; the next call looks for it anew.
        """
        queue, self._queue = self._queue or self._find(), None
        if queue is None:
            return None
        load: ScalingLoad | None = self._get(queue.load.remote(), timeout=ANSWER_S)
        self._queue = None if load is None else queue
        return load
