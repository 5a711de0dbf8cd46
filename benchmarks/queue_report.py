"""Owns what a results file says of the queue's speed, as JSON and as Markdown. Measures nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

from fastserve.machine import Machine, provenance


@dataclass(frozen=True, slots=True)
class Times:
    """Of one kind of event, in milliseconds."""

    p50_ms: float
    p99_ms: float
    most_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """seconds: at least one."""
        ordered = sorted(seconds)
        return cls(*(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99, 1.0)))

    def __str__(self) -> str:
        return f"{self.p50_ms:.3f} / {self.p99_ms:.3f} / {self.most_ms:.3f}"


@dataclass(frozen=True, slots=True)
class QueueLevel:
    """One number of waiting tickets.

    in_process_per_s, decision: grants of the queue's own code, and the call that frees a slot and grants it anew.
    over_ray_per_s: grants by the queue as an actor, as fast as they come. handover: from the release of a slot to the
    news of the grant that fills it, while slots are freed `paced_per_s` times a second.
    """

    num_waiting: int
    in_process_per_s: float
    decision: Times
    over_ray_per_s: float
    paced_per_s: float
    handover: Times


@dataclass(frozen=True, slots=True)
class QueueReport:
    """One run of the queue benchmark. num_grants: of each figure. num_slots: of each replica."""

    date: str
    command: str
    commit: str
    machine: Machine
    num_grants: int
    num_ingresses: int
    num_replicas: int
    num_slots: int
    num_tenants: int
    seed: int
    levels: list[QueueLevel]

    def to_json(self) -> str:
        return json.dumps({"benchmark": "queue", **asdict(self)}, indent=2) + "\n"

    def to_markdown(self) -> str:
        sections = [f"# Speed of the queue, {self.date}", self._what(), self._table(), _HOW_TO_READ]
        sections.append("\n".join(provenance(self.command, self.commit, self.machine)))
        return "\n\n".join(sections) + "\n"

    def _what(self) -> str:
        return (
            f"{self.num_grants:,} grants for each figure, to {self.num_replicas} replicas with {self.num_slots} slots "
            f"each, asked for by {self.num_ingresses} ingresses for {self.num_tenants} tenants; priorities, lengths "
            f"and tenants by seed {self.seed}. Nobody computes anything."
        )

    def _table(self) -> str:
        header = ("waiting", "grants/s", "decision", "grants/s over Ray", "handover", "at grants/s")
        rows = [header, ("---:",) * len(header), *(_row(level) for level in self.levels)]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


_HOW_TO_READ = (
    "Times in milliseconds: median / p99 / longest. Grants/s: of the queue's own code in one process, with all that is "
    "said for a grant. Decision: the call that frees a slot and decides who gets it. Over Ray: the queue is an actor, "
    "and those who speak to it are in one other process. Handover: from the release of a slot there to the news of the "
    "grant that fills it, while slots are freed at the rate in the last column."
)


def _row(level: QueueLevel) -> tuple[str, ...]:
    return (
        f"{level.num_waiting:,}",
        f"{level.in_process_per_s:,.0f}",
        str(level.decision),
        f"{level.over_ray_per_s:,.0f}",
        str(level.handover),
        f"{level.paced_per_s:,.0f}",
    )
