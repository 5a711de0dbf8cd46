"""What waits to be told to a queue: in order, the newest of its kind, and nothing that is void."""

from __future__ import annotations

from deployments.queueing.messages import Cancel, Configure, Enqueue, Register, Release
from deployments.queueing.outbox import Outbox
from scheduling.admission import AdmissionBounds
from scheduling.score import ScorePolicy
from tests.deployments.queueing.in_memory_queue import REPLICA
from tests.factories import make_ticket

ASK = Enqueue(make_ticket(lease_id="a"))
OLD, NEW = (Configure(ScorePolicy(alpha=alpha), AdmissionBounds()) for alpha in (1.0, 2.0))


def outbox_of(*messages: object) -> Outbox:
    outbox = Outbox()
    for message in messages:
        outbox.put(message)  # type: ignore[arg-type]
    return outbox


def test_messages_are_taken_once_and_in_order() -> None:
    outbox = outbox_of(Release("x"), ASK, Release("y"))

    assert outbox.take() == [Release("x"), ASK, Release("y")]
    assert outbox.take() == []


def test_the_newest_of_a_kind_of_standing_news_replaces_the_others() -> None:
    assert outbox_of(OLD, Release("x"), Register(REPLICA), NEW).take() == [Release("x"), Register(REPLICA), NEW]


def test_a_ticket_that_was_never_sent_goes_with_its_cancel() -> None:
    assert outbox_of(ASK, Cancel("a")).take() == []


def test_the_cancel_of_a_ticket_that_was_taken_out_is_sent() -> None:
    outbox = outbox_of(ASK)
    outbox.take()
    outbox.put(Cancel("a"))

    assert outbox.take() == [Cancel("a")]


def test_a_ticket_that_may_have_been_heard_is_followed_by_its_cancel() -> None:
    outbox = outbox_of(ASK, OLD)
    batch = outbox.take()
    outbox.put(NEW)
    outbox.put_back(batch)
    outbox.put(Cancel("a"))

    assert outbox.take() == [ASK, NEW, Cancel("a")]


def test_a_new_queue_hears_of_leases_alone() -> None:
    outbox = outbox_of(OLD, ASK, Release("x"), Cancel("b"))

    assert outbox.take_lease_news() == [Release("x"), Cancel("b")]
    assert len(outbox) == 0
