"""Owns what a results file says of answers that lost their replica, as JSON and as Markdown. Measures nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from fastserve.machine import Machine, provenance


@dataclass(frozen=True, slots=True)
class FailoverLoad:
    """num_streams: at a time, of num_tokens each, over two replicas."""

    num_streams: int
    num_tokens: int
    num_rounds: int
    settings: dict[str, object]


@dataclass(frozen=True, slots=True)
class VictimResult:
    """What the clients saw where one kind of process was killed.

    delays_s: added to each stream that moved. stayed_delays_s: to each that did not, on the same machine meanwhile.
    """

    victim: str
    num_streams: int
    num_same: int
    delays_s: list[float]
    stayed_delays_s: list[float]
    failures: list[str]


@dataclass(frozen=True, slots=True)
class FailoverReport:
    """One run of the failover benchmark."""

    date: str
    command: str
    commit: str
    machine: Machine
    load: FailoverLoad
    victims: list[VictimResult]

    @property
    def is_whole(self) -> bool:
        """Every stream was read to its end and says what it says undisturbed."""
        return all(victim.num_same == victim.num_streams for victim in self.victims)

    def to_json(self) -> str:
        return json.dumps({"benchmark": "failover", **asdict(self)}, indent=2) + "\n"

    def to_markdown(self) -> str:
        sections = [f"# Answers that lose their replica, {self.date}", self._what(), self._table(), self._how_to_read()]
        sections.append("\n".join(provenance(self.command, self.commit, self.machine)))
        failures = [failure for victim in self.victims for failure in victim.failures]
        if failures:
            sections.append("\n".join(["Streams that differ:", "", *(f"- {failure}" for failure in failures)]))
        return "\n\n".join(sections) + "\n"

    def _what(self) -> str:
        load = self.load
        return (
            f"{load.num_streams} streams of {load.num_tokens} tokens, half greedy, half seeded, over two replicas; "
            f"in each of {load.num_rounds} rounds a process of one of these is killed (SIGKILL) when all have begun. "
            f"Model settings: `{json.dumps(load.settings)}`."
        )

    def _table(self) -> str:
        head = (
            "| killed | streams | same text and usage | moved | added delay p50 | p99 | of who stayed p50 | p99 |\n"
            "|---|---:|---:|---:|---:|---:|---:|---:|"
        )
        rows = [
            f"| {each.victim} | {each.num_streams} | {each.num_same} | {len(each.delays_s)} "
            f"| {_p50_and_p99(each.delays_s)} | {_p50_and_p99(each.stayed_delays_s)} |"
            for each in self.victims
        ]
        return "\n".join([head, *rows])

    def _how_to_read(self) -> str:
        return (
            "Same: as the same request undisturbed, in the same company. Added delay: by how much the longest "
            "gap of a stream is longer than its median gap. The second replica takes the streams that move one after "
            "the other, beside its own, and the successor of the first loads its model meanwhile: the streams that "
            "stayed show what the machine and the newcomers' company cost everybody."
        )


def _p50_and_p99(delays_s: list[float]) -> str:
    """Two cells, by nearest rank: of fewer than a hundred, the p99 is the worst."""
    if not delays_s:
        return "- | -"
    ordered = sorted(delays_s)
    return f"{ordered[len(ordered) // 2]:.2f} s | {ordered[-1 - len(ordered) // 100]:.2f} s"
