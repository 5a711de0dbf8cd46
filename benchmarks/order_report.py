"""Owns what a results file says of the order of starts, as JSON and as Markdown. Measures nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from fastserve.machine import Machine, provenance

_ROUNDING_S = 1e-5  # of keys near 1.7e8, at a beta of 0.1


@dataclass(frozen=True, slots=True)
class OrderLoad:
    """What is served and asked. num_open: requests that are open at a time. num_slots: of each replica."""

    num_requests: int
    num_open: int
    num_ingresses: int
    num_replicas: int
    num_slots: int
    seed: int


@dataclass(frozen=True, slots=True)
class OrderReport:
    """One run of the order benchmark.

    smallest_slack_s: by how much the closest overtaking kept its bound, by the service's own check; None where nobody
    was overtaken. median_waiting, most_waiting: requests that waited while another was granted.
    """

    date: str
    command: str
    commit: str
    machine: Machine
    load: OrderLoad
    num_started: int
    requests_per_s: float
    num_inversions: int
    smallest_slack_s: float | None
    median_waiting: float
    most_waiting: int
    num_failed: int
    failures: list[str]

    @property
    def is_in_order(self) -> bool:
        """Every request was answered, none out of its turn, and the bound on overtaking was kept."""
        is_kept = self.smallest_slack_s is None or self.smallest_slack_s >= -_ROUNDING_S
        return is_kept and self.num_inversions == 0 and self.num_failed == 0

    def to_json(self) -> str:
        return json.dumps({"benchmark": "order", **asdict(self)}, indent=2) + "\n"

    def to_markdown(self) -> str:
        sections = [f"# Order of starts, {self.date}", self._what(), self._table(), self._how_to_read()]
        sections.append("\n".join(provenance(self.command, self.commit, self.machine)))
        if self.failures:
            sections.append("\n".join(["Failed requests:", "", *(f"- {reason}" for reason in self.failures)]))
        return "\n\n".join(sections) + "\n"

    def _what(self) -> str:
        load = self.load
        return (
            f"{load.num_requests:,} streaming completions of 1 to 3 tokens, priorities -10 to 10 (seed {load.seed}), "
            f"{load.num_open:,} open at a time, over {load.num_ingresses} ingresses, to {load.num_replicas} replicas "
            f"of the fake engine with {load.num_slots} slots each; no preemption, nothing refused."
        )

    def _table(self) -> str:
        slack = "-" if self.smallest_slack_s is None else f"{self.smallest_slack_s:.6f} s"
        rows = [
            ("started", f"{self.num_started:,}"),
            ("failed", f"{self.num_failed:,}"),
            ("requests/s", f"{self.requests_per_s:.1f}"),
            ("inversions", f"{self.num_inversions:,}"),
            ("smallest slack of the bound on overtaking", slack),
            ("waiting at a grant, median", f"{self.median_waiting:,.0f}"),
            ("waiting at a grant, most", f"{self.most_waiting:,}"),
        ]
        return "\n".join(["| figure | value |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)])

    def _how_to_read(self) -> str:
        return (
            "An inversion is a grant while somebody of a higher key had been registered and waited, by the headers of "
            "the answers; they tell instants apart that are more than a tenth of a millisecond away from each other. "
            "The slack is the service's own, of every grant against all who waited: below 0 the bound was broken."
        )
