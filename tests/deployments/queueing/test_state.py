"""Mailboxes, heartbeats and membership around the dispatcher."""

from __future__ import annotations

import asyncio

from deployments.deployment_actors import ActorIdentity
from deployments.queueing.messages import (
    Claim,
    Configure,
    Delivery,
    Enqueue,
    Granted,
    Introduce,
    Leave,
    QueueAnswer,
    Queued,
    Refused,
    Register,
    Release,
    Retired,
    SendFailed,
    Sent,
)
from deployments.queueing.state import OWNER_SILENCE_S, QueueState
from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.errors import QueueFull
from scheduling.load import ClassObjective
from scheduling.replicas import ReplicaState
from scheduling.score import ScorePolicy, Stamp
from tests.factories import make_ticket

NOW_S = 1000.0
TICK_S = 0.5


class SteadyClock:
    """Stands still until it is told to pass; ticks the queue as often as its actor does."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s

    def tick_for(self, state: QueueState, seconds: float) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.now_s += TICK_S
            state.tick(NOW_S)


def make_state(*, max_waiting: int = 10, clock: SteadyClock | None = None) -> QueueState:
    return QueueState(
        Dispatcher(ScorePolicy(), AdmissionBounds(max_waiting=max_waiting)),
        ActorIdentity("actor", NOW_S, retired=False),
        clock or SteadyClock(),
    )


def register(replica_id: str = "r1", *, slots: int = 1, holding: tuple[str, ...] = ()) -> Register:
    state = ReplicaState(replica_id, max_num_seqs=slots, kv_tokens=10_000, max_model_len=8_000, incarnation=1)
    return Register(state, holding)


def leases(answers: tuple[QueueAnswer, ...]) -> list[str]:
    return [answer.grant.lease_id for answer in answers if isinstance(answer, Granted)]


def refused(answers: tuple[QueueAnswer, ...]) -> list[str]:
    return [answer.lease_id for answer in answers if isinstance(answer, Refused)]


def test_a_free_slot_is_granted_in_the_answer_to_the_enqueue_itself() -> None:
    state = make_state()
    state.submit("replica", [register()], 0, NOW_S)

    delivery = state.submit("router", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)

    assert leases(delivery.answers) == ["a"]


def test_the_objectives_that_an_ingress_told_of_last_hold() -> None:
    state = make_state()
    for wait_s in (5.0, 2.0):
        told = Configure(ScorePolicy(), AdmissionBounds(), objectives={"standard": ClassObjective(0, wait_s)})
        state.submit("ingress", [told], 0, NOW_S)

    assert state.objectives == {"standard": ClassObjective(0, 2.0)}


def test_whoever_must_wait_is_told_the_stamp_to_keep() -> None:
    state = make_state()

    delivery = state.submit("router", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)

    assert delivery.answers == (Queued("a", Stamp(priority=0.0, arrival_s=NOW_S)),)


def test_answers_are_kept_until_they_are_acknowledged_and_keep_their_numbers() -> None:
    state = make_state()
    state.submit("replica", [register(slots=2)], 0, NOW_S)
    state.submit("router", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)

    again = state.submit("router", [], 0, NOW_S)
    later = state.submit("router", [Enqueue(make_ticket(lease_id="b"))], 2, NOW_S)

    assert leases(again.answers) == ["a"]
    assert (later.first, leases(later.answers)) == (2, ["b"])


async def test_a_parked_poll_wakes_with_the_grant_that_a_release_makes_possible() -> None:
    state = make_state()
    state.submit("replica", [register()], 0, NOW_S)
    state.submit("router", [Enqueue(make_ticket(lease_id="a")), Enqueue(make_ticket(lease_id="b"))], 0, NOW_S)
    poll = asyncio.create_task(state.poll("router", 3))
    await asyncio.sleep(0)

    state.submit("replica", [Claim("a", "r1"), Release("a")], 0, NOW_S)

    assert leases((await asyncio.wait_for(poll, 1)).answers) == ["b"]


async def test_a_parked_poll_sleeps_on_when_its_owner_hears_the_news_in_an_answer() -> None:
    state = make_state()
    state.submit("replica", [register()], 0, NOW_S)
    state.submit("router", [], 0, NOW_S)
    poll = asyncio.create_task(state.poll("router", 1))
    await asyncio.sleep(0)

    answer = state.submit("router", [Enqueue(make_ticket(lease_id="a"))], 1, NOW_S)
    for _ in range(10):  # turns of the event loop: more than a poll that is woken needs
        await asyncio.sleep(0)

    assert leases(answer.answers) == ["a"]
    assert not poll.done()
    poll.cancel()


def test_a_refused_ticket_is_told_to_its_own_owner_only() -> None:
    state = make_state(max_waiting=1)
    first = state.submit("one", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)
    second = state.submit("two", [Enqueue(make_ticket(lease_id="b"))], 0, NOW_S)

    assert refused(first.answers) == []
    assert refused(second.answers) == ["b"]


def test_a_replica_that_left_serve_s_list_is_granted_nothing() -> None:
    state = make_state()
    state.submit("replica", [register()], 0, NOW_S)

    state.follow(frozenset(), NOW_S)
    delivery = state.submit("router", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)

    assert leases(delivery.answers) == []


def test_a_replica_that_says_it_leaves_is_granted_nothing_more() -> None:
    state = make_state()
    state.submit("replica", [register()], 0, NOW_S)

    state.submit("replica", [Leave("r1")], 0, NOW_S)
    delivery = state.submit("router", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)

    assert leases(delivery.answers) == []


def test_a_replica_that_registers_before_serve_lists_it_is_granted_once_it_does() -> None:
    state = make_state()
    state.follow(frozenset({"other"}), NOW_S)
    state.submit("replica", [register()], 0, NOW_S)
    state.submit("router", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)

    state.follow(frozenset({"other", "r1"}), NOW_S)

    assert leases(state.submit("router", [], 0, NOW_S).answers) == ["a"]


def test_a_failed_send_quarantines_the_replica_until_it_registers_again() -> None:
    state = make_state()
    state.submit("replica", [register()], 0, NOW_S)
    state.submit("router", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)
    state.submit("router", [SendFailed("a", "r1"), Enqueue(make_ticket(lease_id="b"))], 1, NOW_S)
    quarantined = state.submit("router", [], 2, NOW_S)

    state.submit("replica", [register()], 0, NOW_S)

    assert leases(quarantined.answers) == []
    assert leases(state.submit("router", [], 2, NOW_S).answers) == ["b"]


def test_an_owner_that_falls_silent_loses_its_leases_to_those_who_wait() -> None:
    clock = SteadyClock()
    state = make_state(clock=clock)
    state.submit("replica", [register()], 0, NOW_S)
    state.submit("dead", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)
    state.submit("replica", [Claim("a", "r1")], 0, NOW_S)
    clock.tick_for(state, OWNER_SILENCE_S - 1)
    state.submit("replica", [register(holding=("a",))], 0, NOW_S)
    state.submit("alive", [Enqueue(make_ticket(lease_id="b"))], 0, NOW_S)

    clock.tick_for(state, 2)

    assert leases(state.submit("alive", [], 0, NOW_S).answers) == ["b"]


def test_a_wall_clock_set_forward_makes_nobody_silent() -> None:
    state = make_state()
    state.submit("router", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)

    state.tick(NOW_S + 3600)

    assert state.dispatcher.num_waiting == 1


def test_a_queue_that_was_paused_does_not_take_its_own_silence_for_the_owners() -> None:
    clock = SteadyClock()
    state = make_state(clock=clock)
    state.submit("router", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)
    clock.now_s += 10 * OWNER_SILENCE_S

    clock.tick_for(state, OWNER_SILENCE_S - 1)
    in_time = state.dispatcher.num_waiting
    clock.tick_for(state, 2)

    assert (in_time, state.dispatcher.num_waiting) == (1, 0)


async def test_an_owner_that_speaks_again_after_its_silence_is_asked_to_introduce_itself() -> None:
    clock = SteadyClock()
    state = make_state(clock=clock)
    seen = state.submit("router", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)
    num_seen = seen.first + len(seen.answers)
    clock.tick_for(state, OWNER_SILENCE_S + 1)

    told = state.submit("router", [Enqueue(make_ticket(lease_id="b"))], num_seen, NOW_S)
    polled = await state.poll("router", num_seen)

    assert told.answers == polled.answers == (Introduce(),)
    assert state.dispatcher.num_waiting == 0


def test_the_answers_to_an_owner_that_came_back_are_not_numbered_as_seen() -> None:
    clock = SteadyClock()
    state = make_state(clock=clock)
    seen = state.submit("router", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)
    num_seen = seen.first + len(seen.answers)
    clock.tick_for(state, OWNER_SILENCE_S + 1)

    state.submit("router", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)
    after_a_late_poll = state.submit("router", [], num_seen, NOW_S)

    assert [type(answer) for answer in after_a_late_poll.answers] == [Queued]


def test_a_grant_that_is_being_sent_is_not_granted_again_before_it_can_be_claimed() -> None:
    state = make_state()
    state.submit("replica", [register()], 0, NOW_S)
    state.submit("router", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)
    state.submit("router", [Sent("a", "r1")], 0, NOW_S)

    state.tick(NOW_S + 5)

    assert leases(state.submit("router", [], 0, NOW_S + 5).answers) == ["a"]


def test_a_failed_send_does_not_count_as_a_request_served() -> None:
    state = make_state(max_waiting=1)
    state.submit("replica", [register()], 0, NOW_S)
    state.submit("router", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)
    state.submit("router", [SendFailed("a", "r1")], 0, NOW_S + 0.5)

    asks = [Enqueue(make_ticket(lease_id="b")), Enqueue(make_ticket(lease_id="c"))]
    [error] = [a.error for a in state.submit("router", asks, 0, NOW_S + 1).answers if isinstance(a, Refused)]

    assert isinstance(error, QueueFull)
    assert error.retry_after_s == AdmissionBounds().default_retry_after_s


async def test_a_retired_queue_sends_everyone_away_and_grants_nothing() -> None:
    state = make_state()
    state.submit("router", [Enqueue(make_ticket(lease_id="a"))], 0, NOW_S)
    poll = asyncio.create_task(state.poll("router", 2))
    await asyncio.sleep(0)

    state.retire()
    told = await asyncio.wait_for(poll, 1)
    sent_away = state.submit("replica", [register()], 0, NOW_S)

    assert told == Delivery(2, (Retired(),))
    assert sent_away.answers == (Retired(),)
    assert leases(state.submit("router", [], 2, NOW_S).answers) == []


async def test_a_retired_queue_has_nobody_waiting_or_running_for_anyone_to_count() -> None:
    state = make_state()
    state.submit("replica", [register()], 0, NOW_S)
    asks = [Enqueue(make_ticket(lease_id="runs")), Enqueue(make_ticket(lease_id="waits"))]
    state.submit("router", asks, 0, NOW_S)
    state.submit("other", [Enqueue(make_ticket(lease_id="waits-too"))], 0, NOW_S)

    state.retire()
    state.submit("router", asks, 0, NOW_S)
    state.tick(NOW_S + 0.1)

    snapshot = state.dispatcher.snapshot(NOW_S + 0.1)
    assert (state.dispatcher.num_waiting, snapshot.waiting, snapshot.waiting_tokens) == (0, (), 0)
    assert snapshot.num_running == 0
