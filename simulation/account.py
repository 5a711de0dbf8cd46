"""Owns the running account of how requests ended, by class and by tenant. Judges by objectives; works nothing out."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from simulation.objectives import Objectives
from simulation.outcome import Ended, Outcome


def _times() -> array[float]:
    return array("d")


@dataclass(slots=True)
class Group:
    """Requests that have something in common. Times are in seconds, one for each answer that has them.

    output_tokens: those that came in time to be counted.
    """

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    ttfts_s: array[float] = field(default_factory=_times)
    tpots_s: array[float] = field(default_factory=_times)
    queues_s: array[float] = field(default_factory=_times)
    num_good: int = 0
    prompt_tokens: int = 0
    output_tokens: float = 0.0
    num_preemptions: int = 0

    @property
    def num_requests(self) -> int:
        return self.outcomes.total()

    def add(self, ended: Ended, *, is_good: bool, until_s: float) -> None:
        self.outcomes[ended.outcome] += 1
        self.num_preemptions += ended.num_preemptions
        if ended.ttft_s is None:
            return
        self.ttfts_s.append(ended.ttft_s)
        self.num_good += is_good
        self.prompt_tokens += ended.num_prompt_tokens
        self.output_tokens += ended.output_tokens_until(until_s)
        if ended.tpot_s is not None:
            self.tpots_s.append(ended.tpot_s)
        if ended.queue_s is not None:
            self.queues_s.append(ended.queue_s)

    def merge(self, other: Group) -> None:
        self.outcomes.update(other.outcomes)
        self.num_good += other.num_good
        self.prompt_tokens += other.prompt_tokens
        self.output_tokens += other.output_tokens
        self.num_preemptions += other.num_preemptions
        for mine, its in zip(self._all_times(), other._all_times(), strict=True):
            mine.extend(its)

    def _all_times(self) -> tuple[array[float], ...]:
        return self.ttfts_s, self.tpots_s, self.queues_s


class Account:
    """Groups by (class, tenant), and the span of time between the first request and the last end.

    until_s: tokens that come later are not counted: a rate of tokens is that of a service under its load.
    """

    def __init__(self, objectives: Mapping[str, Objectives], until_s: float | None = None) -> None:
        self._objectives = objectives
        self._until_s = math.inf if until_s is None else until_s
        self._groups: dict[tuple[str, str], Group] = {}
        self.first_asked_s = math.inf
        self.last_ended_s = -math.inf

    def __len__(self) -> int:
        """Requests that have ended."""
        return sum(group.num_requests for group in self._groups.values())

    @property
    def duration_s(self) -> float:
        return max(0.0, self.last_ended_s - self.first_asked_s)

    @property
    def classes(self) -> list[str]:
        """Those with an objective in their order, then the others by name."""
        seen = {service_class for service_class, _ in self._groups}
        return [*self._objectives, *sorted(seen - set(self._objectives))]

    @property
    def tenants(self) -> list[str]:
        return sorted({tenant for _, tenant in self._groups})

    def tell(self, ended: Ended) -> None:
        group = self._groups.setdefault((ended.service_class, ended.tenant), Group())
        group.add(ended, is_good=self._is_good(ended), until_s=self._until_s)
        self.first_asked_s = min(self.first_asked_s, ended.asked_s)
        self.last_ended_s = max(self.last_ended_s, ended.ended_s)

    def merge(self, other: Account) -> None:
        """Takes another round's account in; the span of time is then that of neither."""
        for kind, group in other._groups.items():
            self._groups.setdefault(kind, Group()).merge(group)

    def total(self) -> Group:
        return _merged(self._groups.values())

    def of_class(self, name: str) -> Group:
        return _merged(group for (service_class, _), group in self._groups.items() if service_class == name)

    def of_tenant(self, name: str) -> Group:
        return _merged(group for (_, tenant), group in self._groups.items() if tenant == name)

    def _is_good(self, ended: Ended) -> bool:
        objectives = self._objectives.get(ended.service_class)
        return objectives is None or ended.ttft_s is None or objectives.are_met(ended.ttft_s, ended.tpot_s)


def _merged(groups: Iterable[Group]) -> Group:
    merged = Group()
    for group in groups:
        merged.merge(group)
    return merged
