"""Owns what follows when work that a process cannot do without ends: the process ends too. Knows not what work."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger("ray.serve")


def vital_task(work: Coroutine[Any, Any, None], end_process: Callable[[int], object] = os._exit) -> asyncio.Task[None]:
    """Runs `work`, which never ends but by cancellation; any other end ends the process, so that Serve replaces it."""

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        logger.critical("Work that never ends has ended; so does this process.", exc_info=task.exception())
        end_process(1)

    task = asyncio.create_task(work)
    task.add_done_callback(ended)
    return task
