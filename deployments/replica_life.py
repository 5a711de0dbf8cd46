"""Owns how a replica's process ends: with the first of the background works that it cannot do without.

Knows not what the works do, nor to whom the farewell is said.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from deployments.queueing.vital_task import vital_task

logger = logging.getLogger("ray.serve")

FAREWELL_S = 0.5  # how long open calls get to send their failure to the ingress before the process ends


class ReplicaLife:
    """Runs the works, each under its name. None of them ends while the replica is well.

    When one does, the replica has its `farewell`: it takes itself off the queue's list and fails its open calls, for
    which the other works go on. Then the process ends, so that Serve replaces the replica at once.
    """

    def __init__(
        self,
        works: Mapping[str, Coroutine[Any, Any, object]],
        farewell: Callable[[], None],
        end_process: Callable[[int], object] = os._exit,
        farewell_s: float = FAREWELL_S,
    ) -> None:
        self._works = {name: asyncio.create_task(work) for name, work in works.items()}
        self._farewell = farewell
        self._farewell_s = farewell_s
        self._ending = vital_task(self._end_with_the_first(), end_process)

    @property
    def is_over(self) -> bool:
        """Whether any of the works has ended."""
        return any(work.done() for work in self._works.values())

    def stop(self) -> None:
        """End the works and not the process: Serve ends the replica in its own way."""
        for task in (self._ending, *self._works.values()):
            task.cancel()

    async def _end_with_the_first(self) -> None:
        await asyncio.wait(self._works.values(), return_when=asyncio.FIRST_COMPLETED)
        for name, work in self._works.items():
            if work.done():
                logger.error("This replica ends, because %s has ended: %s", name, _outcome(work))
        self._farewell()
        await asyncio.sleep(self._farewell_s)


def _outcome(work: asyncio.Task[object]) -> str:
    if work.cancelled():
        return "it was cancelled"
    return repr(work.exception() or work.result())
