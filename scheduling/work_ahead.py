"""Owns how much work lies ahead of a place in the queue. Knows nothing of rates, replicas or clocks."""

from __future__ import annotations

import math
from collections.abc import Mapping


class WorkAhead:
    """Expected tokens of those who wait, by tenant and key.

    Keys are counted in steps of `grain`: whoever waits in a newcomer's own step came before it. The cost of a question
    is the number of steps in use, not of those who wait.
    """

    def __init__(self, grain: float) -> None:
        self._grain = grain
        self._by_tenant: dict[str, dict[int, int]] = {}
        self._totals: dict[str, int] = {}

    def add(self, tenant: str, key: float, num_tokens: int) -> None:
        """So many tokens more wait under this key, or, below 0, fewer."""
        steps = self._by_tenant.setdefault(tenant, {})
        step = self._step(key)
        steps[step] = steps.get(step, 0) + num_tokens
        if not steps[step]:
            del steps[step]
        self._totals[tenant] = self._totals.get(tenant, 0) + num_tokens
        if not steps:
            del self._by_tenant[tenant], self._totals[tenant]

    def of(self, tenant: str, key: float, weights: Mapping[str, float], num_more: float = 0.0) -> float:
        """Tokens that are served before somebody of this tenant under this key, and before `num_more` of its own.

        weights: of the tenants that are configured; 1 for others. Each other tenant is served beside this one by
        weight, as long as it has anything left.
        """
        own = self._own(tenant, key) + num_more
        share = own / weights.get(tenant, 1.0)
        others = (
            min(total, share * weights.get(other, 1.0)) for other, total in self._totals.items() if other != tenant
        )
        return own + sum(others)

    def _own(self, tenant: str, key: float) -> int:
        step = self._step(key)
        return sum(num_tokens for other, num_tokens in self._by_tenant.get(tenant, {}).items() if other >= step)

    def _step(self, key: float) -> int:
        return math.floor(key / self._grain)
