"""Owns what the comparison's results file says. Measures nothing."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.peers.latencies import Latencies
from benchmarks.peers.pairs import Comparison
from fastserve.machine import Machine


@dataclass(frozen=True, slots=True)
class PeerReport:
    """One run. what: the work, in a sentence. versions: of the peer. checked: how both sides' answers were held to the
    reference, by side. latencies: of each side, where clients saw any."""

    date: str
    command: str
    commit: str
    machine: Machine
    peer: str
    kind: str
    what: str
    versions: dict[str, str]
    checked: dict[str, str]
    comparisons: list[Comparison]
    latencies: dict[str, list[Latencies]] = field(default_factory=dict)

    def to_json(self) -> str:
        measured = [{**asdict(each), "ratios": each.ratios, "ratio": each.ratio} for each in self.comparisons]
        facts = {key: value for key, value in asdict(self).items() if key != "comparisons"}
        return json.dumps({"benchmark": f"peers-{self.kind}", **facts, "comparisons": measured}, indent=2) + "\n"

    def to_markdown(self) -> str:
        rates: list[tuple[str, ...]] = [("tokens/s", "FastServe over " + self.peer, "FastServe", self.peer)]
        rates += [_row(each) for each in self.comparisons]
        facts = [
            *((f"answers of {side}", how) for side, how in self.checked.items()),
            (self.peer, ", ".join(f"{name} {number}" for name, number in self.versions.items())),
            ("command", f"`{self.command}`"),
            ("commit", f"`{self.commit}`"),
            ("hardware", self.machine.hardware()),
            ("software", self.machine.software()),
        ]
        sections = [
            f"# FastServe beside {self.peer}, {self.kind}, {self.date}",
            self.what,
            _table(rates),
            "The median of the pairs' ratios, with the lowest and the highest; the rates are medians.",
            *self._latency_sections(),
            "\n".join(f"- {name}: {value}" for name, value in facts),
        ]
        return "\n\n".join(sections) + "\n"

    def _latency_sections(self) -> list[str]:
        if not self.latencies:
            return []
        header = ("ms, p50 / p99", *(f"{what} of {side}" for what in ("TTFT", "ITL") for side in self.latencies))
        rows = [_latency_row(level) for level in zip(*self.latencies.values(), strict=True)]
        return [_table([header, *rows]), "Over all turns: TTFT of every answer, ITL of every gap between its texts."]


def _latency_row(level: Sequence[Latencies]) -> tuple[str, ...]:
    return (
        f"{level[0].num_clients} clients",
        *(str(side.ttft_ms) for side in level),
        *(str(side.itl_ms) for side in level),
    )


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    ruled = [rows[0], ("---", *("---:" for _ in rows[0][1:])), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in ruled)


def _row(comparison: Comparison) -> tuple[str, ...]:
    ratios = comparison.ratios
    return (
        comparison.measure,
        f"{comparison.ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        f"{statistics.median(comparison.ours):.1f}",
        f"{statistics.median(comparison.peers):.1f}",
    )
