"""Plays a scenario over one round of traffic or several, and works out its figures. Reads no file, draws nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from simulation.account import Account
from simulation.activity import Activity
from simulation.moments import Moments
from simulation.outcome import Ended
from simulation.results import Figures, FleetFigures, Moment, OrderFigures, group_figures
from simulation.scenario import Scenario
from simulation.traffic import Traffic
from simulation.twin import Twin

_HOUR_S = 3600.0


@dataclass(slots=True)
class _Sums:
    """Over the rounds so far. replica_s: time that replicas were there. most_replicas: at one moment."""

    num_rounds: int = 0
    duration_s: float = 0.0
    replica_s: float = 0.0
    most_replicas: int = 0
    activity: Activity = field(default_factory=Activity)
    num_by_swap: int = 0
    num_by_recompute: int = 0
    num_recomputed_tokens: int = 0
    num_checked: int = 0
    num_violations: int = 0
    smallest_slack_s: float = math.inf
    moments: list[Moment] = field(default_factory=list)

    def add(self, twin: Twin, duration_s: float) -> None:
        self.num_rounds += 1
        self.duration_s += duration_s
        self.replica_s += twin.fleet.replica_s(twin.calendar.now_s)
        self.most_replicas = max(self.most_replicas, twin.fleet.most)
        self.activity.add(twin.fleet.activity())
        preemptions = twin.fleet.preemptions()
        self.num_by_swap += preemptions.num_by_swap
        self.num_by_recompute += preemptions.num_by_recompute
        self.num_recomputed_tokens += preemptions.num_recomputed_tokens
        overtaking = twin.queue.overtaking
        self.num_checked += overtaking.num_checked
        self.num_violations += overtaking.num_violations
        self.smallest_slack_s = min(self.smallest_slack_s, overtaking.smallest_slack_s)


def play(scenario: Scenario, rounds: Iterable[Traffic], on_end: Callable[[], None] = lambda: None) -> Figures:
    """Each round begins with an idle service; the moments are the first one's. on_end: called as each request ends.

    Raises:
        ValueError: nobody asked for anything.
    """
    account, sums = Account(scenario.objectives), _Sums()
    for traffic in rounds:
        of_round = Account(scenario.objectives, traffic.duration_s)
        moments = Moments()
        twin = Twin(scenario, traffic, _telling(of_round, on_end))
        twin.run(_looking(twin, moments))
        account.merge(of_round)
        sums.add(twin, of_round.duration_s if traffic.duration_s is None else traffic.duration_s)
        sums.moments = sums.moments or moments.taken
    if not len(account):
        raise ValueError(f"{scenario.name}: expected at least one request, got none")
    return _figures(scenario, account, sums)


def _telling(account: Account, on_end: Callable[[], None]) -> Callable[[Ended], None]:
    def tell(ended: Ended) -> None:
        account.tell(ended)
        on_end()

    return tell


def _looking(twin: Twin, moments: Moments) -> Callable[[], None]:
    def look() -> None:
        moments.look(twin.calendar.now_s, partial(_moment, twin))

    return look


def _moment(twin: Twin, at_s: float) -> Moment:
    return Moment(
        at_s,
        num_waiting=twin.queue.num_waiting,
        num_running=sum(replica.num_running for replica in twin.fleet),
        num_parked=sum(replica.num_parked for replica in twin.fleet),
        num_replicas=len(twin.fleet),
    )


def _figures(scenario: Scenario, account: Account, sums: _Sums) -> Figures:
    return Figures(
        name=scenario.name,
        num_rounds=sums.num_rounds,
        duration_s=sums.duration_s,
        total=group_figures("all", account.total(), sums.duration_s),
        classes=[group_figures(name, account.of_class(name), sums.duration_s) for name in account.classes],
        tenants=[group_figures(name, account.of_tenant(name), sums.duration_s) for name in account.tenants],
        order=OrderFigures(
            num_checked=sums.num_checked,
            num_violations=sums.num_violations,
            smallest_slack_s=sums.smallest_slack_s if math.isfinite(sums.smallest_slack_s) else None,
        ),
        fleet=_fleet_figures(scenario, sums),
        moments=sums.moments,
    )


def _fleet_figures(scenario: Scenario, sums: _Sums) -> FleetFigures:
    slots = scenario.shape.limits.max_num_seqs
    return FleetFigures(
        most_replicas=sums.most_replicas,
        replica_hours=sums.replica_s / _HOUR_S,
        busy_share=sums.activity.busy_s / sums.replica_s if sums.replica_s else 0.0,
        slot_share=sums.activity.slot_s / (sums.replica_s * slots) if sums.replica_s else 0.0,
        num_steps=sums.activity.num_steps,
        num_preemptions_by_swap=sums.num_by_swap,
        num_preemptions_by_recompute=sums.num_by_recompute,
        num_recomputed_tokens=sums.num_recomputed_tokens,
    )
