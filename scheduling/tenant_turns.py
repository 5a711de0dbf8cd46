"""Owns whose turn it is among the tenants who wait. Knows nothing of the order within one, of replicas or of clocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from scheduling.fairness import FairShares
from scheduling.lazy_heap import LazyHeap, Position
from scheduling.score import ScorePolicy, Stamp

DEFAULT_TAG_SPEED = 1_000.0  # tokens for each unit of weight in a second, until it has been measured
_SAME_SPEED = 0.25  # a speed that has changed by less than this share is the same: each change sorts all tenants anew


class TenantTurns:
    """The tenants by their heads: each bids its head's priority against the service that it has had.

    A tenant's tag, at the speed at which tags pass, is a time: the higher `alpha * priority - beta * tag / speed` goes
    first. So equal priorities take turns by weight, and a level of priority is a head start of so many seconds of
    service, once.
    """

    def __init__(self, policy: ScorePolicy, shares: FairShares) -> None:
        self._policy = policy
        self._shares = shares
        self._heads: dict[str, tuple[Stamp, int]] = {}
        self._best_first = LazyHeap()
        self._least_served = LazyHeap()
        self._tag_speed = DEFAULT_TAG_SPEED

    def __len__(self) -> int:
        return len(self._heads)

    def __iter__(self) -> Iterator[str]:
        """Those who wait, in no useful order."""
        return iter(self._heads)

    def head(self, tenant: str) -> Stamp:
        return self._heads[tenant][0]

    def first(self) -> str | None:
        return self._best_first.first()

    def set_head(self, tenant: str, stamp: Stamp, seq: int) -> None:
        """The tenant waits, and this is its best. seq: settles ties."""
        if tenant not in self._heads:
            self._shares.begin_waiting(tenant)
        if self._heads.get(tenant) != (stamp, seq):
            self._heads[tenant] = (stamp, seq)
            self._place(tenant)

    def remove(self, tenant: str) -> None:
        """Nobody of the tenant waits."""
        if self._heads.pop(tenant, None) is not None:
            self._best_first.discard(tenant)
            self._least_served.discard(tenant)
            self._shares.forget(tenant)

    def charge(self, tenant: str, num_tokens: float) -> None:
        """The tenant was granted so many tokens, or, below 0, had them given back."""
        self._shares.charge(tenant, num_tokens)
        if tenant in self._heads:
            self._place(tenant)
        else:
            self._shares.forget(tenant)

    def pass_time(self) -> None:
        """Something is granted now: virtual time moves on to the least served of those who wait."""
        least = self._least_served.first_position()
        if least is not None:
            self._shares.pass_to(least[0])

    def lead_s(self, tenant: str) -> float:
        """Seconds of service by which the tenant is ahead of the least served."""
        return self._shares.lead(tenant) / self._tag_speed

    def tag_s(self, tenant: str) -> float:
        """The tenant's tag as a time."""
        return self._shares.tag(tenant) / self._tag_speed

    def service_s(self, tenant: str, num_tokens: float) -> float:
        """By how many seconds so many tokens put the tenant's tag forward."""
        return num_tokens / self._shares.weight(tenant) / self._tag_speed

    def set_rate(self, tokens_per_s: float) -> None:
        """What all tenants together are served, as last measured."""
        waiting_weight = sum(self._shares.weight(tenant) for tenant in self._heads)
        speed = tokens_per_s / (waiting_weight or 1.0)
        if abs(speed - self._tag_speed) > _SAME_SPEED * self._tag_speed:
            self._tag_speed = speed
            self._sort_anew()

    def set_weights(self, weights: Mapping[str, float]) -> None:
        self._shares.set_weights(weights)
        self._sort_anew()

    def set_policy(self, policy: ScorePolicy) -> None:
        self._policy = policy
        self._sort_anew()

    def _sort_anew(self) -> None:
        for tenant in self._heads:
            self._place(tenant)

    def _place(self, tenant: str) -> None:
        stamp, seq = self._heads[tenant]
        tag = self._shares.tag(tenant)
        position: Position = (-self._policy.turn_key(stamp, self.tag_s(tenant)), tag, stamp.arrival_s, seq)
        self._best_first.push(tenant, position)
        self._least_served.push(tenant, (tag,))
