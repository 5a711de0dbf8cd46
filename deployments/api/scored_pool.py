"""Owns a few threads that take the best-scored work first. Knows nothing of prompts, tokens or HTTP."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from deployments.errors import PoolFull

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(order=True, slots=True)
class _Item:
    order: tuple[float, int]
    work: Callable[[], Any] = field(compare=False)
    future: asyncio.Future[Any] = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Outcome:
    future: asyncio.Future[Any]
    value: Any = None
    error: BaseException | None = None


class ScoredPool:
    """Runs functions off the event loop, the highest key first, first come first served among equals.

    Bounded: `max_pending` counts work that no thread has taken yet. When that many wait, the lowest key gives way, be
    it the newcomer's or another's. Work that is cancelled before a thread takes it never runs. Threads start with the
    first work. All callers share one event loop, and results that finish while it is busy reach it in one wake-up.

    Raises:
        PoolFull: from `run`, when `max_pending` better items wait.
    """

    def __init__(self, num_threads: int, max_pending: int, name: str = "scored-pool") -> None:
        self.num_threads = num_threads
        self.max_pending = max_pending
        self._name = name
        self._sequence = itertools.count()
        self._waiting: list[_Item] = []
        self._outcomes: list[_Outcome] = []
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._closed = False

    @property
    def num_pending(self) -> int:
        return len(self._waiting)

    async def run(self, key: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result, or what it raised. The higher key runs sooner."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        item = _Item((-key, next(self._sequence)), lambda: function(*args, **kwargs), future)
        self._put(item)
        try:
            return await future
        finally:
            if future.cancelled():
                self._drop(item)

    def close(self) -> None:
        """Ends the threads after the work in hand; what waits is cancelled. Call it on the event loop."""
        with self._changed:
            self._closed = True
            left, self._waiting = self._waiting, []
            self._changed.notify_all()
        for item in left:
            item.future.cancel()

    def _put(self, item: _Item) -> None:
        with self._changed:
            if self._closed:
                raise PoolFull(self.max_pending)
            heapq.heappush(self._waiting, item)
            shed = max(self._waiting) if len(self._waiting) > self.max_pending else None
            self._changed.notify()
        if shed is not None and self._drop(shed) and not shed.future.done():
            shed.future.set_exception(PoolFull(self.max_pending))
        if len(self._threads) < self.num_threads:
            self._start_thread()

    def _drop(self, item: _Item) -> bool:
        """Whether the item still waited. Linear, and worth it: dropped work counts against the bound no longer."""
        with self._changed:
            kept = [waiting for waiting in self._waiting if waiting is not item]
            found = len(kept) < len(self._waiting)
            if found:
                heapq.heapify(kept)
                self._waiting = kept
        return found

    def _start_thread(self) -> None:
        name = f"{self._name}-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (item := self._take()) is not None:
            self._report(_outcome(item))

    def _take(self) -> _Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return heapq.heappop(self._waiting) if self._waiting else None

    def _report(self, outcome: _Outcome) -> None:
        loop = outcome.future.get_loop()
        with self._changed:
            self._outcomes.append(outcome)
            is_first = len(self._outcomes) == 1
        if is_first and not loop.is_closed():
            loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._changed:
            outcomes, self._outcomes = self._outcomes, []
        for outcome in outcomes:
            if outcome.future.done():
                continue
            if outcome.error is not None:
                outcome.future.set_exception(outcome.error)
            else:
                outcome.future.set_result(outcome.value)


def _outcome(item: _Item) -> _Outcome:
    try:
        return _Outcome(item.future, item.work())
    except StopIteration as error:  # asyncio takes it for its own: no future can carry it
        carried = RuntimeError("the work raised StopIteration")
        carried.__cause__ = error
        return _Outcome(item.future, error=carried)
    except BaseException as error:  # carried to the caller, who awaits it
        return _Outcome(item.future, error=error)
