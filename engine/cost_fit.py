"""Owns a fit of seconds to two kinds of work, learned from one observation after another. Knows no clock."""

from __future__ import annotations

#: What an older observation counts beside the one after it.
_MEMORY = 0.95
#: An observation beyond this many times what was expected says more about the machine than about the work.
_MOST_OVER = 3.0
#: Two kinds of work that always came in one proportion cannot be told apart: the second keeps the price it had. This is
#: the least that the determinant must be of the product of its diagonal.
_LEAST_SPREAD = 1e-3


class CostFit:
    """seconds = first_s * first + second_s * second, by least squares with exponential forgetting; neither is negative.

    (Recursive least squares in its plain form: five running sums and two equations.)
    """

    def __init__(self) -> None:
        self.first_s = self.second_s = 0.0
        self._ff = self._fs = self._ss = self._fy = self._sy = 0.0

    def observe(self, first: float, second: float, took_s: float) -> None:
        """So much work of each kind, `first` above 0, has taken so long."""
        if (expected_s := self.first_s * first + self.second_s * second) > 0:
            took_s = min(took_s, _MOST_OVER * expected_s)
        self._ff = _MEMORY * self._ff + first * first
        self._fs = _MEMORY * self._fs + first * second
        self._ss = _MEMORY * self._ss + second * second
        self._fy = _MEMORY * self._fy + first * took_s
        self._sy = _MEMORY * self._sy + second * took_s
        self._solve()

    def _solve(self) -> None:
        spread = self._ff * self._ss - self._fs * self._fs
        if spread > _LEAST_SPREAD * self._ff * self._ss:
            self.second_s = max(0.0, (self._ff * self._sy - self._fs * self._fy) / spread)
        self.first_s = (self._fy - self._fs * self.second_s) / self._ff
        if self.first_s < 0.0:  # then all of it is the second's
            self.first_s, self.second_s = 0.0, self._sy / self._ss
