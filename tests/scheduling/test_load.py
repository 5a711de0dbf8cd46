"""The load as it is read off a real dispatcher's snapshots."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.errors import NeverFits, QueueFull
from scheduling.load import ClassObjective, LoadMeter
from scheduling.scaling_load import ClassLoad, ScalingLoad
from scheduling.score import Stamp
from tests.factories import make_dispatcher, make_replica, make_ticket

OBJECTIVES = {
    "urgent": ClassObjective(min_priority=5, wait_s=1.0),
    "standard": ClassObjective(min_priority=0, wait_s=5.0),
    "flex": ClassObjective(min_priority=-100, wait_s=60.0),
}
TOKENS = 20  # of a ticket of the factory: 10 of prompt, 10 of output


class Queue:
    """A dispatcher and a meter on one clock."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.meter = LoadMeter()
        self.now_s = 0.0
        self.num_asked = 0

    def ask(self, service_class: str = "standard", priority: float = 0.0) -> str:
        self.num_asked += 1
        lease_id = f"lease-{self.num_asked}"
        ticket = replace(make_ticket(lease_id, priority=priority), service_class=service_class)
        self.dispatcher.enqueue(ticket, "ingress", self.now_s)
        return lease_id

    def read(self, after_s: float = 1.0) -> ScalingLoad:
        self.now_s += after_s
        self.dispatcher.expire(self.now_s)
        return self.meter.read(self.dispatcher.snapshot(self.now_s), OBJECTIVES, self.now_s)

    def serve(self, num_requests: int) -> None:
        """So many of those who run end, and others take their slots."""
        for _, grant in self.dispatcher.dispatch(self.now_s):
            self.dispatcher.claim(grant.lease_id, grant.replica_id)
        for view in self.dispatcher.snapshot(self.now_s).running[:num_requests]:
            self.dispatcher.release(view.lease_id)
        for _, grant in self.dispatcher.dispatch(self.now_s):
            self.dispatcher.claim(grant.lease_id, grant.replica_id)


def the(name: str, load: ScalingLoad) -> ClassLoad:
    [found] = [one for one in load.classes if one.name == name]
    return found


def test_each_class_has_its_own_share_of_who_waits_and_who_runs() -> None:
    queue = Queue(make_dispatcher(make_replica(max_num_seqs=1)))
    queue.ask("urgent", 10)
    queue.serve(0)
    for _ in range(2):
        queue.ask("standard", 0)
        queue.ask("flex", -10)

    load = queue.read(after_s=3.0)

    assert (the("urgent", load).num_running, the("urgent", load).tokens_running) == (1, TOKENS)
    standard, flex = the("standard", load), the("flex", load)
    assert (standard.num_waiting, standard.tokens_waiting, standard.tokens_ahead) == (2, 2 * TOKENS, 2 * TOKENS)
    assert (flex.num_waiting, flex.tokens_waiting, flex.tokens_ahead) == (2, 2 * TOKENS, 4 * TOKENS)
    assert (standard.longest_wait_s, standard.num_arrived) == (3.0, 2)
    assert (standard.is_sheddable, flex.is_sheddable) == (False, True)
    assert (standard.objective_s, flex.objective_s) == (5.0, 60.0)
    assert the("urgent", load).priority > standard.priority > flex.priority
    assert (load.num_replicas, load.max_num_seqs, load.kv_tokens) == (1, 1, 10_000)


def test_what_was_served_long_ago_lies_before_a_higher_class_that_came_late() -> None:
    queue = Queue(make_dispatcher(make_replica(max_num_seqs=1)))
    queue.ask()
    queue.serve(0)
    queue.ask("flex", -10)
    queue.now_s = 1_000.0
    queue.ask("standard", 0)

    assert the("standard", queue.read()).tokens_ahead == 2 * TOKENS


def test_a_class_on_both_sides_of_priority_0_is_two() -> None:
    queue = Queue(make_dispatcher())
    queue.ask("all", 3)
    queue.ask("all", -3)

    above, below = queue.read().classes

    assert (below.name, below.is_sheddable, below.num_waiting) == ("all", True, 1)
    assert (above.name, above.is_sheddable, above.num_waiting) == ("all", False, 1)
    assert below.priority < above.priority
    assert above.objective_s is None  # nobody told of one


def test_arrivals_are_counted_once_and_also_when_they_came_and_went_unseen() -> None:
    queue = Queue(make_dispatcher(make_replica(max_num_seqs=4)))
    queue.read()
    for _ in range(60):
        queue.ask()
        queue.serve(4)
        load = queue.read()
    assert the("standard", load).num_arrived == 1
    assert the("standard", load).arriving_tokens_per_s == pytest.approx(TOKENS, rel=0.2)

    assert the("standard", queue.read()).num_arrived == 0


def test_a_request_that_comes_back_with_its_stamp_did_not_arrive_again() -> None:
    queue = Queue(make_dispatcher())
    queue.dispatcher.enqueue(make_ticket("moved", stamp=Stamp(0, 0.0)), "ingress", 1.0)
    load = queue.read()
    assert (the("standard", load).num_waiting, the("standard", load).num_arrived) == (1, 0)


def test_a_request_that_is_refused_did_not_arrive() -> None:
    queue = Queue(make_dispatcher(make_replica(max_model_len=5)))
    with pytest.raises(NeverFits):
        queue.ask()
    assert queue.read().classes == ()


def test_a_request_that_finds_the_queue_full_did_not_arrive() -> None:
    queue = Queue(make_dispatcher(bounds=AdmissionBounds(max_waiting=1)))
    queue.ask()
    with pytest.raises(QueueFull):
        queue.ask()
    assert the("standard", queue.read()).num_arrived == 1


def test_the_rate_of_a_replica_is_what_the_queue_has_measured() -> None:
    queue = Queue(make_dispatcher(make_replica("a", max_num_seqs=1), make_replica("b", max_num_seqs=1)))
    assert queue.read().tokens_per_s is None
    for _ in range(3):
        queue.ask()
    queue.serve(0)
    for second in range(20):
        for replica_id in ("a", "b"):
            queue.dispatcher.observe_service(replica_id, 40 * second, queue.now_s)
        load = queue.read()
    assert load.tokens_per_s == pytest.approx(40)


def test_one_that_gave_way_waits_and_does_not_run() -> None:
    queue = Queue(make_dispatcher(make_replica("a", max_num_seqs=1, parked_limit=1)))
    bulk = queue.ask("flex", -10)
    queue.serve(0)
    queue.ask("urgent", 10)
    queue.serve(0)
    queue.dispatcher.park(bulk, "a")
    load = queue.read()
    assert (the("flex", load).num_waiting, the("flex", load).num_running) == (1, 0)
    assert the("urgent", load).num_running == 1


def test_a_quarantined_replica_is_none() -> None:
    queue = Queue(make_dispatcher(make_replica("a"), make_replica("b")))
    queue.dispatcher.quarantine("a")
    assert queue.read().num_replicas == 1
    queue.dispatcher.quarantine("b")
    alone = queue.read()
    assert (alone.num_replicas, alone.max_num_seqs) == (0, None)


def test_the_start_of_the_replicas_is_told() -> None:
    queue = Queue(make_dispatcher(replace(make_replica(), started_in_s=12.5)))
    assert queue.read().startup_s == 12.5


def test_the_same_moment_read_twice_is_the_same_load() -> None:
    queue = Queue(make_dispatcher(make_replica()))
    queue.ask()
    first = queue.read()
    again = queue.read(after_s=0.0)
    assert again.classes[0].arriving_tokens_per_s == first.classes[0].arriving_tokens_per_s
