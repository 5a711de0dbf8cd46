"""Owns what happens once a second: replicas tell what they have served, and the policy says how many there should be.

Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Callable

from simulation.calendar import Calendar
from simulation.fleet import SimulatedFleet
from simulation.queue_side import QueueSide
from simulation.scaling import Scaler, Scaling

_EVERY_S = 1.0


class Upkeep:
    """Ticks while there is something to keep up.

    is_over: whether nobody is there any more, nor will come. is_idle: whether nobody is there now. on_change: told when
    the queue has more or fewer replicas.
    """

    def __init__(
        self,
        calendar: Calendar,
        queue: QueueSide,
        fleet: SimulatedFleet,
        scaling: Scaling | None,
        *,
        is_over: Callable[[], bool],
        is_idle: Callable[[], bool],
        on_change: Callable[[], None],
    ) -> None:
        self._calendar = calendar
        self._queue = queue
        self._fleet = fleet
        self._startup_s = 0.0 if scaling is None else scaling.startup_s
        self._scaler = None if scaling is None else Scaler(scaling)
        self._num_starting = 0
        self._is_over = is_over
        self._is_idle = is_idle
        self._on_change = on_change
        self._is_ticking = False
        self._somebody_waited = False  # at the tick before

    def begin(self, num_replicas: int) -> None:
        """So many replicas are there from the beginning."""
        for _ in range(num_replicas):
            self._serve(since_s=0.0)

    def wake(self) -> None:
        """Somebody has come."""
        if not self._is_ticking:
            self._is_ticking = True
            self._calendar.at(self._calendar.now_s + _EVERY_S, self._tick, None)

    def _tick(self, _: None) -> None:
        now_s = self._calendar.now_s
        self._tell_service(now_s)
        if self._scaler is not None:
            self._scale(self._scaler, now_s)
        # Without a policy nothing changes while nobody is there.
        self._is_ticking = not (self._is_over() if self._scaler is not None else self._is_idle())
        if self._is_ticking:
            self._calendar.at(now_s + _EVERY_S, self._tick, None)

    def _tell_service(self, now_s: float) -> None:
        """What is served while nobody waits says nothing about what a queue waits for: that is not told."""
        somebody_waits = self._queue.num_waiting > 0
        if somebody_waits or self._somebody_waited:
            for replica_id, replica in self._fleet.serving.items():
                self._queue.observe_service(replica_id, replica.num_served_by(now_s), now_s)
        self._somebody_waited = somebody_waits

    def _scale(self, scaler: Scaler, now_s: float) -> None:
        num_wanted = scaler.num_wanted(self._queue.snapshot(now_s), self._num_starting, now_s)
        num_more = num_wanted - len(self._fleet.serving) - self._num_starting
        for _ in range(num_more):
            self._num_starting += 1
            self._calendar.at(now_s + self._startup_s, self._has_started, now_s)
        for _ in range(min(-num_more, len(self._fleet.serving))):
            self._queue.remove_replica(self._fleet.let_one_go(now_s).replica_id)
        if num_more < 0:
            self._on_change()

    def _has_started(self, since_s: float) -> None:
        self._num_starting -= 1
        self._serve(since_s)
        self._on_change()

    def _serve(self, since_s: float) -> None:
        replica = self._fleet.add(since_s)
        started_in_s = self._calendar.now_s - since_s or None
        self._queue.add_replica(self._fleet.state(replica, started_in_s))
        self._queue.observe_service(replica.replica_id, 0, self._calendar.now_s)
