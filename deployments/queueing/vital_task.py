"""Owns what follows when background work ends that should not: the process ends, or says so. Knows not what work."""

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

    return _watched(work, ended)


def vital_step(work: Coroutine[Any, Any, None], end_process: Callable[[int], object] = os._exit) -> asyncio.Task[None]:
    """Runs `work`, which ends when it is done; its failure ends the process, so that Serve's next one tries again."""

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        logger.critical("Work that this process must do has failed; it ends.", exc_info=task.exception())
        end_process(1)

    return _watched(work, ended)


def loud_task(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Runs `work` that the process can go on without: its failure is logged at once, under its name."""

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        logger.critical("Background work has failed: %s.", name, exc_info=task.exception())

    return _watched(work, ended)


def _watched(work: Coroutine[Any, Any, None], ended: Callable[[asyncio.Task[None]], None]) -> asyncio.Task[None]:
    task = asyncio.create_task(work)
    task.add_done_callback(ended)
    return task
