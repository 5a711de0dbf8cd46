"""Owns who may wait: the bounds, and when a refused client should come back. Knows nothing of keys or replicas."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scheduling.errors import QueueFull, QueueTokensFull
from scheduling.queue import Backlog

_MEMORY_S = 30.0


@dataclass(frozen=True, slots=True)
class AdmissionBounds:
    """How much may wait. What runs is bounded by the replicas' slots, not here.

    max_waiting: requests.
    max_waiting_tokens: prompt and longest output of all who wait; None means no bound. One request alone may always
        wait, however large, or it could never be served.
    default_retry_after_s: the answer while no release has been measured.
    max_retry_after_s: the answer is never later than this.

    Raises:
        ValueError: a bound is below 1, or a time is not a positive finite number.
    """

    max_waiting: int = 1024
    max_waiting_tokens: int | None = None
    default_retry_after_s: float = 5.0
    max_retry_after_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("max_waiting", "max_waiting_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value!r}")
        for name in ("default_retry_after_s", "max_retry_after_s"):
            value = getattr(self, name)
            if not math.isfinite(value) or value <= 0:
                raise ValueError(f"{name}: expected a finite number of seconds above 0, got {value!r}")


class ReleaseRate:
    """Leases released per busy second: both counts fade exponentially, so the estimate follows the last half minute.

    Time in which nothing runs is left out by the caller: an idle hour says nothing about speed.
    """

    def __init__(self, memory_s: float = _MEMORY_S) -> None:
        self._memory_s = memory_s
        self._num_released = 0.0
        self._busy_s = 0.0

    def observe(self, busy_s: float, num_released: int) -> None:
        """Adds an interval of `busy_s` seconds at whose end `num_released` leases had been released."""
        kept = math.exp(-busy_s / self._memory_s)
        self._num_released = self._num_released * kept + num_released
        self._busy_s = self._busy_s * kept + self._memory_s * (1.0 - kept)

    @property
    def per_s(self) -> float | None:
        """None until a release has been seen."""
        return self._num_released / self._busy_s if self._num_released > 0 and self._busy_s > 0 else None


class Admission:
    """Applies the bounds and answers those who are refused."""

    def __init__(self, bounds: AdmissionBounds) -> None:
        self.bounds = bounds
        self._rate = ReleaseRate()
        self._booked_until_s = -math.inf
        self._num_released = 0

    def count_release(self) -> None:
        """A lease that may have run is over; its slot can be had again."""
        self._num_released += 1

    def pass_time(self, elapsed_s: float, num_running: int) -> None:
        """Time has passed. Where nothing ran it says nothing about speed, so it is left out."""
        if num_running or self._num_released:
            self.observe(elapsed_s, self._num_released)
            self._num_released = 0

    def observe(self, busy_s: float, num_released: int) -> None:
        self._rate.observe(busy_s, num_released)

    def is_exceeded_by(self, backlog: Backlog) -> bool:
        """Whether more waits than may."""
        return backlog.num_waiting > self.bounds.max_waiting or self._has_too_many_tokens(backlog)

    def refusal(self, backlog: Backlog, now_s: float) -> QueueFull:
        """The error for a request that finds `backlog` in its way. Books its return, so make one per refusal."""
        retry_after_s = self._book_return(now_s)
        limit = self.bounds.max_waiting_tokens
        if backlog.num_waiting < self.bounds.max_waiting and limit is not None:
            return QueueTokensFull(backlog.num_tokens, limit, retry_after_s)
        return QueueFull(backlog.num_waiting, self.bounds.max_waiting, retry_after_s)

    def _has_too_many_tokens(self, backlog: Backlog) -> bool:
        limit = self.bounds.max_waiting_tokens
        return limit is not None and backlog.num_tokens > limit and backlog.num_waiting > 1

    def _book_return(self, now_s: float) -> float:
        """Each refused client is given a release of its own: a herd told the same second would be refused again."""
        if (rate := self._rate.per_s) is None:
            return min(self.bounds.default_retry_after_s, self.bounds.max_retry_after_s)
        next_free_s = max(now_s, self._booked_until_s) + 1.0 / rate
        self._booked_until_s = min(next_free_s, now_s + self.bounds.max_retry_after_s)
        return self._booked_until_s - now_s
