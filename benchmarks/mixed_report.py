"""Owns what a mixed-priority run's results file says, as JSON and as Markdown. Measures nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from benchmarks.capacity import Capacity
from benchmarks.class_report import GroupReport, Times
from benchmarks.lateness import Lateness
from benchmarks.memory import MemoryGrowth
from benchmarks.peers.pairs import Comparison
from benchmarks.returns import Returns
from benchmarks.side_report import SideReport
from fastserve.machine import Machine, provenance
from fastserve.traffic_file import Traffic
from simulation.objectives import Objectives
from simulation.workload import Lengths, Lognormal, LognormalLengths

_GROUP_COLUMNS = (
    *("offered", "completed", "refused", "failed", "TTFT p50", "p95", "p99", "TPOT p50", "p95", "p99", "in time"),
    "goodput",
)


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """How a class asked. lengths: in words."""

    name: str
    share: float
    priority: float
    lengths: str
    objectives: Objectives


@dataclass(frozen=True, slots=True)
class MixedReport:
    """One run of the mixed-priority benchmark.

    arrivals: the load's schedule, in words. rate_per_s: what it was made for, of which `load` times the capacity's knee
    where that was measured. tokens_per_word: as the first answer showed. sides: ours, then the peer where there is one.
    comparisons: ours over the peer's, by round. settings: of the model, where this run started it. smallest_slack_s: by
    how much the closest overtaking kept its bound, by our service's own check of every grant; None where none says so.
    memory: of the service's processes, where this run started it and the load lasted for more than two minutes.
    """

    date: str
    command: str
    commit: str
    machine: Machine
    model: str
    settings: dict[str, object] | None
    arrivals: str
    classes: list[ClassFacts]
    tenants: dict[str, float]
    duration_s: float
    num_rounds: int
    rate_per_s: float
    load: float | None
    capacity: Capacity | None
    tokens_per_word: float
    idle_rate_per_s: float
    sides: list[SideReport]
    comparisons: list[Comparison]
    smallest_slack_s: float | None
    memory: MemoryGrowth | None = None

    @property
    def is_valid(self) -> bool:
        return all(side.is_valid for side in self.sides)

    @property
    def num_failed(self) -> int:
        return sum(side.total.failed + side.idle.failed for side in self.sides)

    def to_json(self) -> str:
        facts = {
            "benchmark": "mixed-priority",
            "is_valid": self.is_valid,
            "capacity_per_s": None if self.capacity is None else self.capacity.knee.requests_per_s,
            "ratios": {each.measure: each.ratio for each in self.comparisons},
            **asdict(self),
        }
        return json.dumps(facts, indent=2) + "\n"

    def to_markdown(self) -> str:
        sections = [f"# Mixed-priority benchmark, {self.date}", *self._verdict(), self._what(), self._classes()]
        sections += [] if self.capacity is None else [_capacity(self.capacity)]
        for side in self.sides:
            sections += [f"## {side.name}", *_side(side, self.idle_rate_per_s)]
        sections += _compared(self.comparisons)
        if self.smallest_slack_s is not None:
            sections.append(
                f"Smallest slack of the bound on overtaking, of every grant: {self.smallest_slack_s:.6f} s."
            )
        sections += [] if self.memory is None else [_memory(self.memory)]
        sections += [_HOW_TO_READ, "\n".join(self._provenance())]
        return "\n\n".join(sections) + "\n"

    def _verdict(self) -> list[str]:
        late = [f"{side.name}: {_lateness(side.lateness)}" for side in self.sides if not side.is_valid]
        return [] if self.is_valid else [f"**Invalid: the sender did not keep to its schedule.** {'; '.join(late)}"]

    def _what(self) -> str:
        load = "" if self.load is None else f", {self.load:g} times the measured capacity"
        rounds = "one round" if self.num_rounds == 1 else f"{self.num_rounds} rounds"
        return (
            f"{self.model}, streamed completions of fixed length, greedy, `ignore_eos`, no prompt asked "
            f"twice. {self.arrivals}; {self.rate_per_s:.3g} requests/s{load}, for {self.duration_s:g} s; "
            f"{rounds}. A word counted as {self.tokens_per_word:.2f} tokens."
        )

    def _classes(self) -> str:
        rows = [
            (
                *(each.name, f"{each.share:.0%}", f"{each.priority:g}", each.lengths),
                *(f"{each.objectives.ttft_s:g} s", f"{each.objectives.tpot_s:g} s"),
            )
            for each in self.classes
        ]
        return _table(("class", "share", "priority", "prompt + output tokens", "TTFT at most", "TPOT at most"), rows)

    def _provenance(self) -> Iterator[str]:
        yield from provenance(self.command, self.commit, self.machine)
        if self.settings is not None:
            yield f"- model settings: `{json.dumps(self.settings)}`"


_HOW_TO_READ = (
    "Times in milliseconds, of answered requests only: read them beside `refused`. TTFT counts from the scheduled "
    "time. In time: met both objectives of its class. Goodput: those, in requests/s of the schedule."
)


def _memory(memory: MemoryGrowth) -> str:
    gained = sorted(memory.by_process.items(), key=lambda pair: -pair[1])[:5]
    most = ", ".join(f"{title} {value / 2**20:+.1f} MiB" for title, value in gained)
    return (
        f"Resident memory of the service's processes, from the first minute of the load to its end: "
        f"{memory.first_bytes / 2**20:,.0f} to {memory.last_bytes / 2**20:,.0f} MiB ({memory.share:+.1%}). "
        f"Most of it: {most}."
    )


def _capacity(capacity: Capacity) -> str:
    rows = [
        (f"{level.num_clients}", f"{level.requests_per_s:.2f}", f"{level.output_tokens_per_s:.1f}")
        for level in capacity.levels
    ]
    knee = capacity.knee
    said = f"Capacity, in a closed loop: {knee.requests_per_s:.2f} requests/s, at {knee.num_clients} clients."
    return f"{said}\n\n{_table(('clients', 'requests/s', 'output tokens/s'), rows)}"


def _side(side: SideReport, idle_rate_per_s: float) -> Iterator[str]:
    yield _table(("class", *_GROUP_COLUMNS), [_row(each) for each in [*side.classes, side.total]])
    if side.tenants:
        yield _table(("tenant", *_GROUP_COLUMNS), [_row(each) for each in side.tenants])
    yield "\n".join(f"- {line}" for line in _side_lines(side, idle_rate_per_s))


def _side_lines(side: SideReport, idle_rate_per_s: float) -> Iterator[str]:
    rates, slower = side.output_tokens_per_s_by_round, side.slowdown
    yield (
        f"{side.idle.name} alone, {idle_rate_per_s:g} requests/s, {side.idle.completed} answers: TTFT "
        f"{_percentiles(side.idle.ttft)} ms; under load p50 {_number(slower.p50, 2)}, p95 {_number(slower.p95, 2)}, "
        f"p99 {_number(slower.p99, 2)} times as long; p95 later by {_number(side.urgent_late_steps, 2)} steps "
        f"(medians of all TPOTs)"
    )
    yield f"output tokens/s: {side.output_tokens_per_s:.1f} ({min(rates):.1f} to {max(rates):.1f})"
    for group in side.classes:
        for count in group.refusals:
            told = _number(count.retry_after_p50_s, 0), _number(count.retry_after_max_s, 0)
            yield f"{group.name}: {count.number} times {count.status}, Retry-After p50 {told[0]} s, at most {told[1]} s"
    if side.returns is not None:
        yield _returns(side.returns)
    if side.jain_index is not None:
        yield f"Jain index of the tenants' output tokens: {side.jain_index:.4f}"
    yield f"sender: {_lateness(side.lateness)}"
    yield from (f"failed: {reason}" for reason in side.failures)


def _returns(returns: Returns) -> str:
    share = "-" if returns.share_admitted is None else f"{returns.share_admitted:.0%}"
    return (
        f"of {returns.num_told} told to come back, {returns.num_returned} did; admitted then: {share}; predicted over "
        f"actual wait, median: {_number(returns.median_overestimate, 2)} ({returns.num_judged} judged)"
    )


def _lateness(late: Lateness) -> str:
    return (
        f"late by p50 {late.p50_ms:.2f}, p99 {late.p99_ms:.2f}, at most {late.max_ms:.2f} ms "
        f"(p99 may be {late.limit_ms:g} ms)"
    )


def _compared(comparisons: Sequence[Comparison]) -> list[str]:
    if not comparisons:
        return []
    rows = [
        (each.measure, f"{each.ratio:.2f}", f"{min(each.ratios):.2f} to {max(each.ratios):.2f}", f"{len(each.ratios)}")
        for each in comparisons
    ]
    table = _table(("measure", "ours over the peer's, median", "lowest to highest", "rounds"), rows)
    return ["## Beside each other", table]


def _row(group: GroupReport) -> tuple[str, ...]:
    counts = (group.offered, group.completed, group.refused, group.failed)
    times = [getattr(of, name) for of in (group.ttft, group.tpot) for name in Times.__slots__]
    return (
        group.name,
        *map(str, counts),
        *(_number(time_ms, 1) for time_ms in times),
        str(group.num_in_time),
        f"{group.goodput_per_s:.3f}",
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ("---", *("---:",) * (len(columns) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percentiles(times: Times) -> str:
    return f"p50 {_number(times.p50_ms, 1)}, p95 {_number(times.p95_ms, 1)}, p99 {_number(times.p99_ms, 1)}"


def _number(value: float | None, num_decimals: int) -> str:
    return "-" if value is None else f"{value:.{num_decimals}f}"


def class_facts(traffic: Traffic) -> list[ClassFacts]:
    return [
        ClassFacts(each.name, each.share, each.priority, _lengths(each.lengths), traffic.objectives[each.name])
        for each in traffic.mix.classes
    ]


def _lengths(lengths: Lengths) -> str:
    if isinstance(lengths, LognormalLengths):
        return f"{_length(lengths.prompt)} + {_length(lengths.output)}"
    return "as recorded"


def _length(length: Lognormal) -> str:
    median = f"{length.median_tokens:g}"
    return median if length.sigma == 0 else f"{median} (median; sigma {length.sigma:g}, at most {length.max_tokens})"
