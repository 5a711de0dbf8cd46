"""Plays a service on virtual time: clients ask, the queue decides, replicas answer. Reads no clock; ends by itself.

One request: asked -> (to_queue_s) -> the queue -> granted -> (to_engine_s) -> the replica's batch -> steps -> ended ->
(to_client_s) -> answered, and (release_s) -> its place is free.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from scheduling.errors import QueueFull, SchedulingError
from scheduling.replicas import ReplicaState
from scheduling.request import Grant, Ticket
from simulation.calendar import Calendar
from simulation.outcome import Ended, Outcome, outcome_of
from simulation.queue_side import QueueSide
from simulation.replica import SimulatedReplica, Work
from simulation.scenario import Scenario
from simulation.step_tape import StepTape
from simulation.traffic import Asked, Traffic


@dataclass(slots=True, eq=False)
class _Request:
    """A request on its way. asked_s: by its client, for the first time. num_tries: refused ones included."""

    asked: Asked
    lease_id: str
    asked_s: float
    num_tries: int = 1
    has_waited: bool = False
    queue_s: float | None = None
    begun_s: float | None = None


class Twin:
    """One run of a scenario. `tell` hears of each request's end, exactly once."""

    def __init__(self, scenario: Scenario, traffic: Traffic, tell: Callable[[Ended], None]) -> None:
        self.scenario = scenario
        self.calendar = Calendar()
        self.queue = QueueSide(scenario.policy, scenario.bounds)
        self.replicas: dict[str, SimulatedReplica] = {}
        self._overheads = scenario.overheads
        self._traffic = traffic
        self._tell = tell
        self._requests: dict[str, _Request] = {}  # by lease
        self._num_asked = 0
        self._queue_due_s: float | None = None
        self._to_come = traffic.first()
        self._start_replicas()

    @property
    def num_open(self) -> int:
        """Requests that have reached the queue and not ended."""
        return len(self._requests)

    def run(self, look: Callable[[], None] = lambda: None) -> None:
        """Until every request has ended. `look` is called after each event."""
        self._let_next_come()
        while len(self.calendar):
            self.calendar.run_next()
            look()
        assert not self._requests, f"{len(self._requests)} requests never ended"

    def _start_replicas(self) -> None:
        engine = self._overheads.slow_down(self.scenario.engine)
        tape, places = StepTape(engine.spread, self.scenario.seed), random.Random(self.scenario.seed)
        shape = self.scenario.shape
        for number in range(self.scenario.num_replicas):
            replica = SimulatedReplica(f"replica-{number:04}", shape, engine, tape, places.randrange(len(tape)))
            self.replicas[replica.replica_id] = replica
            longest = min(shape.max_model_len, shape.kv_tokens)
            state = ReplicaState(replica.replica_id, shape.limits.max_num_seqs, shape.kv_tokens, longest, incarnation=1)
            self.queue.add_replica(state)

    # Clients

    def _let_next_come(self) -> None:
        """Those of an open loop are put in one at a time: there may be a million of them."""
        if (asked := next(self._to_come, None)) is not None:
            self.calendar.at(asked.arrival.at_s + self._overheads.to_queue_s, self._comes, asked)

    def _comes(self, asked: Asked) -> None:
        self._let_next_come()
        self._is_asked(asked)

    def _is_asked(self, asked: Asked) -> None:
        self._num_asked += 1
        self._reaches_queue(_Request(asked, f"r{self._num_asked}", asked.arrival.at_s))

    def _comes_back(self, request: _Request) -> None:
        request.num_tries += 1
        request.lease_id = f"{request.lease_id}+"
        request.has_waited = False
        self._reaches_queue(request)

    def _ends(self, request: _Request, outcome: Outcome) -> None:
        now_s, arrival = self.calendar.now_s + self._overheads.to_client_s, request.asked.arrival
        ttft_s = tpot_s = None
        if outcome is Outcome.ANSWERED and request.begun_s is not None:
            ttft_s = request.begun_s + self._overheads.to_client_s - request.asked_s
            if arrival.num_output_tokens > 1:
                tpot_s = (self.calendar.now_s - request.begun_s) / (arrival.num_output_tokens - 1)
        self._tell(
            Ended(
                service_class=arrival.service_class,
                tenant=arrival.tenant,
                outcome=outcome,
                asked_s=request.asked_s,
                ended_s=now_s,
                num_prompt_tokens=arrival.num_prompt_tokens,
                num_output_tokens=arrival.num_output_tokens,
                queue_s=request.queue_s,
                ttft_s=ttft_s,
                tpot_s=tpot_s,
            )
        )
        client = request.asked.client
        if client is not None and (following := self._traffic.next_of(client, now_s)) is not None:
            self.calendar.at(following.arrival.at_s + self._overheads.to_queue_s, self._is_asked, following)

    # The queue

    def _reaches_queue(self, request: _Request) -> None:
        arrival, clients = request.asked.arrival, self.scenario.clients
        self._requests[request.lease_id] = request
        ticket = Ticket(
            lease_id=request.lease_id,
            request_id=request.lease_id,
            priority=arrival.priority,
            num_prompt_tokens=arrival.num_prompt_tokens,
            max_output_tokens=clients.max_output_tokens or arrival.num_output_tokens,
            tenant=arrival.tenant,
            service_class=arrival.service_class,
            deadline_s=clients.deadlines_s.get(arrival.service_class),
        )
        if (refused := self.queue.ask(ticket, self.calendar.now_s)) is not None:
            self._is_given_up(refused.lease_id, refused.error)
        else:
            request.has_waited = True
        self._decide()

    def _decide(self) -> None:
        decisions = self.queue.decide(self.calendar.now_s)
        for grant in decisions.granted:
            self._requests[grant.lease_id].queue_s = grant.queue_s
            self.calendar.at(self.calendar.now_s + self._overheads.to_engine_s, self._reaches_engine, grant)
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
        if isinstance(error, QueueFull) and request.num_tries <= self.scenario.clients.max_retries:
            away_s = self._overheads.to_client_s + error.retry_after_s + self._overheads.to_queue_s
            self.calendar.at(self.calendar.now_s + away_s, self._comes_back, request)
        else:
            self._ends(request, outcome_of(error, has_waited=request.has_waited))

    # The replicas

    def _reaches_engine(self, grant: Grant) -> None:
        request, replica = self._requests[grant.lease_id], self.replicas[grant.replica_id]
        arrival = request.asked.arrival
        self.queue.taken(grant.lease_id, grant.replica_id)
        work = Work(
            lease_id=grant.lease_id,
            stamp=grant.stamp,
            policy=grant.policy,
            num_prompt_tokens=arrival.num_prompt_tokens,
            num_output_tokens=arrival.num_output_tokens,
            max_output_tokens=self.scenario.clients.max_output_tokens or arrival.num_output_tokens,
        )
        due_before_s = replica.due_s
        replica.accept(work, self.calendar.now_s)
        if replica.due_s != due_before_s:
            self._watch_replica(replica)

    def _watch_replica(self, replica: SimulatedReplica) -> None:
        if replica.due_s is not None:
            self.calendar.at(replica.due_s, self._replica_is_due, (replica, replica.due_s))

    def _replica_is_due(self, subject: tuple[SimulatedReplica, float]) -> None:
        replica, due_s = subject
        if due_s != replica.due_s:
            return  # its run of steps was cut short
        progress = replica.advance()
        for lease_id in progress.begun:
            self._requests[lease_id].begun_s = self.calendar.now_s
        for lease_id in progress.ended:
            self._ends(self._requests.pop(lease_id), Outcome.ANSWERED)
            self.calendar.at(self.calendar.now_s + self._overheads.release_s, self._is_released, lease_id)
        self._watch_replica(replica)

    def _is_released(self, lease_id: str) -> None:
        self.queue.end(lease_id)
        if self.queue.num_waiting:
            self._decide()
