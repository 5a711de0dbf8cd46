"""Plays a service on virtual time: clients ask, the queue decides, replicas answer. Reads no clock; ends by itself.

One request: asked -> (to_queue_s) -> the queue -> granted -> (to_engine_s) -> the replica's batch -> steps -> ended ->
(to_client_s) -> answered, and (release_s) -> its place is free.
"""

from __future__ import annotations

from collections.abc import Callable

from scheduling.errors import QueueFull, SchedulingError, WaitTooLong
from scheduling.request import Grant
from simulation.calendar import Calendar, Event
from simulation.engine_messages import Command, Gone, Move, Progress, Resume
from simulation.fleet import SimulatedFleet
from simulation.outcome import Ended, Outcome, outcome_of
from simulation.queue_side import QueueSide
from simulation.replica import SimulatedReplica
from simulation.request import Request
from simulation.scenario import Scenario
from simulation.traffic import Asked, Traffic
from simulation.upkeep import Upkeep


class Twin:
    """One run of a scenario. `tell` hears of each request's end, exactly once."""

    def __init__(self, scenario: Scenario, traffic: Traffic, tell: Callable[[Ended], None]) -> None:
        self.scenario = scenario
        self.calendar = Calendar()
        self.queue = QueueSide(scenario.policy, scenario.bounds, scenario.tenant_weights)
        self.fleet = SimulatedFleet(scenario)
        self._upkeep = Upkeep(
            self.calendar,
            self.queue,
            self.fleet,
            scenario.scaling,
            is_over=lambda: not self._requests and not self._num_coming,
            is_idle=lambda: not self._requests,
            on_change=self._decide,
        )
        self._overheads = scenario.overheads
        self._traffic = traffic
        self._tell = tell
        self._requests: dict[str, Request] = {}  # by lease
        self._num_asked = 0
        self._num_coming = 0  # on their way to the queue
        self._queue_due_s: float | None = None
        self._to_come = traffic.first()
        self._upkeep.begin(scenario.num_replicas)

    def run(self, look: Callable[[], None] = lambda: None) -> None:
        """Until every request has ended. `look` is called after each event."""
        self._let_next_come()
        while len(self.calendar):
            self.calendar.run_next()
            look()
        assert not self._requests, f"{len(self._requests)} requests never ended"

    # Clients

    def _let_next_come(self) -> None:
        """Those of an open loop are put in one at a time: there may be a million of them."""
        if (asked := next(self._to_come, None)) is not None:
            self._comes_at(asked.arrival.at_s, self._comes, asked)

    def _comes_at(self, at_s: float, event: Event, subject: Asked | Request) -> None:
        """Somebody asks then, and reaches the queue a little later."""
        self._num_coming += 1
        self.calendar.at(at_s + self._overheads.to_queue_s, event, subject)

    def _comes(self, asked: Asked) -> None:
        self._let_next_come()
        self._is_asked(asked)

    def _is_asked(self, asked: Asked) -> None:
        self._num_asked += 1
        self._comes_in(Request(asked, self.scenario.clients, f"r{self._num_asked}", asked.arrival.at_s))

    def _comes_in(self, request: Request) -> None:
        self._num_coming -= 1
        self._upkeep.wake()
        self._reaches_queue(request)

    def _ends(self, request: Request, outcome: Outcome) -> None:
        ended = request.ends(outcome, self.calendar.now_s, self._overheads.to_client_s)
        self._tell(ended)
        client = request.asked.client
        if client is not None and (following := self._traffic.next_of(client, ended.ended_s)) is not None:
            self._comes_at(following.arrival.at_s, self._is_asked, following)

    # The queue

    def _reaches_queue(self, request: Request) -> None:
        self._requests[request.lease_id] = request
        if (refused := self.queue.ask(request.ticket(), self.calendar.now_s)) is not None:
            self._is_given_up(refused.lease_id, refused.error)
        else:
            request.has_waited = True
        self._decide()

    def _decide(self) -> None:
        decisions = self.queue.decide(self.calendar.now_s)
        engines_s = self.calendar.now_s + self._overheads.to_engine_s
        for grant in decisions.granted:
            self.calendar.at(engines_s, self._reaches_engine, grant)
        for resumed in decisions.resumed:
            self._tells(engines_s, resumed.replica_id, Resume(resumed.lease_id, resumed.stamp))
        for moved in decisions.moved:
            self._tells(engines_s, moved.replica_id, Move(moved.lease_id))
        for given_up in decisions.given_up:
            self._is_given_up(given_up.lease_id, given_up.error)
        self._watch_queue()

    def _watch_queue(self) -> None:
        due_s = self.queue.next_due_s()
        if due_s is not None and (self._queue_due_s is None or due_s < self._queue_due_s):
            self._queue_due_s = due_s
            self.calendar.at(due_s, self._queue_is_due, due_s)

    def _queue_is_due(self, due_s: float) -> None:
        if due_s == self._queue_due_s:
            self._queue_due_s = None
            self._decide()

    def _is_given_up(self, lease_id: str, error: SchedulingError) -> None:
        request = self._requests.pop(lease_id)
        if isinstance(error, QueueFull | WaitTooLong) and request.num_tries <= self.scenario.clients.max_retries:
            request.asks_again()
            back_s = self.calendar.now_s + self._overheads.to_client_s + error.retry_after_s
            self._comes_at(back_s, self._comes_in, request)
        else:
            self._ends(request, outcome_of(error, has_waited=request.has_waited))

    # The replicas

    def _reaches_engine(self, grant: Grant) -> None:
        self._hears(self.fleet.get(grant.replica_id), self._requests[grant.lease_id].granted(grant))

    def _tells(self, at_s: float, replica_id: str, command: Command) -> None:
        self.calendar.at(at_s, lambda replica: self._hears(replica, command), self.fleet.get(replica_id))

    def _hears(self, replica: SimulatedReplica, command: Command) -> None:
        due_before_s = replica.due_s
        replica.accept(command, self.calendar.now_s)
        if replica.due_s != due_before_s:
            self._watch_replica(replica)

    def _watch_replica(self, replica: SimulatedReplica) -> None:
        if replica.due_s is not None:
            self.calendar.at(replica.due_s, self._replica_is_due, (replica, replica.due_s))

    def _replica_is_due(self, subject: tuple[SimulatedReplica, float]) -> None:
        replica, due_s = subject
        if due_s != replica.due_s:
            return  # its run of steps was cut short
        self._happens(replica, replica.advance())
        self._watch_replica(replica)
        self.fleet.end_if_done(replica, self.calendar.now_s)

    def _happens(self, replica: SimulatedReplica, progress: Progress) -> None:
        """A step has given this."""
        released_s = self.calendar.now_s + self._overheads.release_s
        for lease_id in progress.begun:
            self._requests[lease_id].begins(self.calendar.now_s)
        for gone in progress.ended:
            self._ends(self._requests.pop(gone.lease_id), Outcome.ANSWERED)
            self.calendar.at(released_s, self._is_released, gone)
        for lease_id in progress.preempted:
            self._requests[lease_id].num_preemptions += 1
        for lease_id in progress.held:
            self.calendar.at(released_s, self._is_parked, (lease_id, replica))
        for gone in progress.moved:
            self.calendar.at(released_s, self._is_moved, gone)
        for fallen in progress.fallen:
            self.calendar.at(released_s, self._has_fallen, fallen)

    def _is_released(self, gone: Gone) -> None:
        self.queue.end(gone.lease_id, gone.num_served)
        if self.queue.num_waiting:
            self._decide()

    def _is_parked(self, parked: tuple[str, SimulatedReplica]) -> None:
        """Where the queue knows the replica no more, nobody else would say that it may go on."""
        lease_id, replica = parked
        if self.fleet.is_leaving(replica):
            self._hears(replica, Resume(lease_id, self._requests[lease_id].kept_stamp))
            return
        self.queue.parked(lease_id, replica.replica_id)
        self._decide()

    def _has_fallen(self, fallen: tuple[str, int]) -> None:
        self.queue.fallen(*fallen)

    def _is_moved(self, gone: Gone) -> None:
        """Its ingress asks again, for what is left of it, when the queue knows that it has left its replica."""
        self._is_released(gone)
        request = self._requests.pop(gone.lease_id)
        request.moves(gone)
        self._reaches_queue(request)
