"""Owns how much each tenant has been served for its weight, and who is ahead. Knows nothing of requests or clocks.

Start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queueing", SIGCOMM 1996) over tokens instead of packets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

DEFAULT_WEIGHT = 1.0


class FairShares:
    """Each tenant's tag: tokens that it has been served, divided by its weight, on one common scale.

    Whoever has the lowest tag is served next, so that of any two tenants who both wait all the time, the services,
    divided by weight, differ by no more than the largest request of each. A tenant that comes back starts at the
    virtual time, which is the lowest tag of those who waited when something was last granted: what was idle is nobody's
    credit.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights: dict[str, float] = {}
        self._tags: dict[str, float] = {}
        self._virtual = 0.0
        self.set_weights(weights or {})

    def set_weights(self, weights: Mapping[str, float]) -> None:
        """From now on; what was served counts as it did. A tenant that is not named has the weight 1.

        Raises:
            ValueError: a weight is not a positive finite number.
        """
        for tenant, weight in weights.items():
            if not (math.isfinite(weight) and weight > 0):
                raise ValueError(f"weight of tenant {tenant!r}: expected a finite number above 0, got {weight!r}")
        self._weights = dict(weights)

    @property
    def weights(self) -> Mapping[str, float]:
        return self._weights

    def weight(self, tenant: str) -> float:
        return self._weights.get(tenant, DEFAULT_WEIGHT)

    def tag(self, tenant: str) -> float:
        """Tokens for each unit of weight: the start tag of the tenant's next request."""
        return self._tags.get(tenant, self._virtual)

    def lead(self, tenant: str) -> float:
        """By how much the tenant is ahead of the least served of those who wait."""
        return max(0.0, self.tag(tenant) - self._virtual)

    def begin_waiting(self, tenant: str) -> None:
        """The tenant had nobody waiting until now."""
        self._tags[tenant] = max(self.tag(tenant), self._virtual)

    def charge(self, tenant: str, num_tokens: float) -> None:
        """So many tokens were granted, or, below 0, given back."""
        self._tags[tenant] = self.tag(tenant) + num_tokens / self.weight(tenant)

    def pass_to(self, least_tag: float) -> None:
        """Virtual time moves on to the lowest tag of those who wait; never back."""
        self._virtual = max(self._virtual, least_tag)

    def forget(self, tenant: str) -> None:
        """Nobody of the tenant waits: unless it is ahead, there is nothing to remember."""
        if self._tags.get(tenant, 0.0) <= self._virtual:
            self._tags.pop(tenant, None)
