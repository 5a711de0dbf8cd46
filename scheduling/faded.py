"""Owns averages that forget: what happened lately counts more. Knows nothing of what is averaged."""

from __future__ import annotations

import math


class FadedRate:
    """So much per second, over about the last `memory_s` seconds that were observed.

    Amount and time fade alike, so that the first seconds already give the right rate.

    after_nothing: before the first interval there was none of it for long, so that the first does not stand for all.
    """

    def __init__(self, memory_s: float, *, after_nothing: bool = False) -> None:
        self._memory_s = memory_s
        self._amount = 0.0
        self._seconds = memory_s if after_nothing else 0.0

    def observe(self, seconds: float, amount: float) -> None:
        """So much happened within an interval that ends now, spread evenly over it."""
        kept = math.exp(-seconds / self._memory_s)
        faded_s = self._memory_s * (1.0 - kept)
        self._amount = self._amount * kept + (amount * faded_s / seconds if seconds > 0 else amount)
        self._seconds = self._seconds * kept + faded_s

    @property
    def per_s(self) -> float | None:
        """None until something has happened."""
        return self._amount / self._seconds if self._amount > 0 and self._seconds > 0 else None


class FadedMean:
    """The mean of the last `memory` values, about."""

    def __init__(self, memory: float, first: float) -> None:
        self._keep = 1.0 - 1.0 / memory
        self._sum = first
        self._weight = 1.0

    def observe(self, value: float) -> None:
        self._sum = self._sum * self._keep + value
        self._weight = self._weight * self._keep + 1.0

    @property
    def value(self) -> float:
        return self._sum / self._weight


class FadedShare:
    """How much of what there was, over about the last `memory` observations: the large ones count for more.

    Before the first it is all, and the first is as good as preceded by one of its size that was all.
    """

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._part: FadedMean | None = None
        self._whole: FadedMean | None = None

    def observe(self, part: float, whole: float) -> None:
        """whole: above 0."""
        if self._part is None or self._whole is None:
            self._part, self._whole = FadedMean(self._memory, whole), FadedMean(self._memory, whole)
        self._part.observe(part)
        self._whole.observe(whole)

    @property
    def value(self) -> float:
        return 1.0 if self._part is None or self._whole is None else self._part.value / self._whole.value
