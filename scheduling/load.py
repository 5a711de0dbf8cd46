"""Derives the load of a model from snapshots of its queue. Knows nothing of Ray, of clocks, or of what is decided."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scheduling.faded import FadedRate
from scheduling.scaling_load import ClassLoad, ScalingLoad
from scheduling.snapshot import QueueSnapshot, ReplicaView
from scheduling.startup_time import StartupTime
from scheduling.traffic import Traffic, TrafficClass, Volume

ARRIVALS_MEMORY_S = 30.0
_LOWEST = -1e9  # the priority of what is below 0 and of a class that nobody has told of


@dataclass(frozen=True, slots=True)
class ClassObjective:
    """A service class: priorities from `min_priority` up, and how long a request of it may wait."""

    min_priority: float
    wait_s: float


class LoadMeter:
    """Reads one snapshot after another, in the order of their times."""

    def __init__(self) -> None:
        self._last: tuple[float, QueueSnapshot] | None = None
        self._arrivals: dict[TrafficClass, FadedRate] = {}
        self._startup = StartupTime()

    def read(self, snapshot: QueueSnapshot, objectives: Mapping[str, ClassObjective], now_s: float) -> ScalingLoad:
        """The load at this moment, with rates of the time until now.

        objectives: by the name of the service class.
        """
        before = Traffic() if self._last is None else self._last[1].traffic
        self._measure(snapshot, now_s)
        self._last = (now_s, snapshot)
        tallies = _tallies(snapshot)
        names = sorted({*tallies, *snapshot.traffic.arrived})
        replicas = _serving(snapshot)
        return ScalingLoad(
            classes=tuple(
                self._class_load(name, tallies.get(name, _Tally()), objectives.get(name.name), snapshot.traffic, before)
                for name in names
            ),
            tokens_per_s=snapshot.replica_tokens_per_s,
            startup_s=self._startup.longest_s,
            max_num_seqs=min((replica.max_num_seqs for replica in replicas), default=None),
            kv_tokens=min((replica.kv_tokens for replica in replicas), default=None),
            num_replicas=len(replicas),
        )

    def _measure(self, snapshot: QueueSnapshot, now_s: float) -> None:
        """Takes in what happened since the snapshot before."""
        self._startup.see({view.replica_id: view.started_in_s for view in snapshot.replicas})
        if self._last is None or (elapsed_s := now_s - self._last[0]) <= 0:
            return
        before = self._last[1]
        for name, volume in snapshot.traffic.arrived.items():
            rate = self._arrivals.setdefault(name, FadedRate(ARRIVALS_MEMORY_S, after_nothing=True))
            rate.observe(elapsed_s, _since(volume, before.traffic.arrived.get(name, Volume())).num_tokens)

    def _class_load(
        self, name: TrafficClass, tally: _Tally, objective: ClassObjective | None, traffic: Traffic, before: Traffic
    ) -> ClassLoad:
        least = -math.inf if objective is None else objective.min_priority
        arrivals = self._arrivals.get(name)
        arrived = _since(traffic.arrived.get(name, Volume()), before.arrived.get(name, Volume()))
        return ClassLoad(
            name=name.name,
            is_sheddable=name.is_sheddable,
            priority=max(least, _LOWEST if name.is_sheddable else 0.0),
            objective_s=None if objective is None else objective.wait_s,
            num_waiting=tally.num_waiting,
            tokens_waiting=tally.tokens_waiting,
            tokens_ahead=tally.tokens_ahead,
            longest_wait_s=tally.longest_wait_s,
            num_running=tally.num_running,
            tokens_running=tally.tokens_running,
            arriving_tokens_per_s=0.0 if arrivals is None else arrivals.per_s or 0.0,
            num_arrived=arrived.num_requests,
        )


@dataclass(slots=True)
class _Tally:
    """One class's share of a snapshot."""

    num_waiting: int = 0
    tokens_waiting: int = 0
    tokens_ahead: int = 0
    longest_wait_s: float = 0.0
    num_running: int = 0
    tokens_running: int = 0


def _tallies(snapshot: QueueSnapshot) -> dict[TrafficClass, _Tally]:
    tallies: dict[TrafficClass, _Tally] = {}
    tokens_ahead = 0
    for waiting in snapshot.waiting:
        tally = tallies.setdefault(TrafficClass.of(waiting.service_class, waiting.priority), _Tally())
        tokens_ahead += waiting.expected_tokens
        tally.num_waiting += 1
        tally.tokens_waiting += waiting.expected_tokens
        tally.tokens_ahead = tokens_ahead
        tally.longest_wait_s = max(tally.longest_wait_s, waiting.waited_s)
    for running in snapshot.running:
        tally = tallies.setdefault(TrafficClass.of(running.service_class, running.priority), _Tally())
        tally.num_running += 1
        tally.tokens_running += running.expected_tokens
    return tallies


def _serving(snapshot: QueueSnapshot) -> list[ReplicaView]:
    return [replica for replica in snapshot.replicas if not replica.quarantined]


def _since(now: Volume, before: Volume) -> Volume:
    return Volume(now.num_requests - before.num_requests, now.num_tokens - before.num_tokens)
