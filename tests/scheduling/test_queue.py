"""The waiting heap: a total order, stable among equals, whatever leaves or comes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduling.queue import WaitingQueue
from scheduling.queued import QueuedTicket
from scheduling.score import ScorePolicy, Stamp
from tests.factories import make_ticket

few_priorities = st.integers(min_value=-2, max_value=2)
few_arrivals = st.integers(min_value=0, max_value=20)
stamps = st.builds(Stamp, few_priorities, few_arrivals)
policies = st.sampled_from([ScorePolicy(), ScorePolicy(1, 0), ScorePolicy(0, 1), ScorePolicy(3, 2)])


def make_queue(*stamps: Stamp, policy: ScorePolicy | None = None) -> WaitingQueue:
    """A queue of tickets named "0", "1", ... in order of arrival."""
    queue = WaitingQueue(policy or ScorePolicy())
    for number, stamp in enumerate(stamps):
        queue.push(make_ticket(str(number), priority=stamp.priority), stamp)
    return queue


def ids(queue: WaitingQueue) -> list[str]:
    return [queued.lease_id for queued in queue]


def pop_all(queue: WaitingQueue) -> list[QueuedTicket]:
    popped = []
    while (head := queue.pop()) is not None:
        popped.append(head)
    return popped


def test_the_highest_key_comes_first() -> None:
    assert ids(make_queue(Stamp(0, 0), Stamp(5, 1), Stamp(-5, 2))) == ["1", "0", "2"]


def test_equal_keys_keep_the_order_of_arrival() -> None:
    assert ids(make_queue(*[Stamp(0, 7)] * 5)) == ["0", "1", "2", "3", "4"]


def test_without_beta_equal_priorities_still_go_by_arrival() -> None:
    returning_late = [Stamp(0, 9), Stamp(0, 3)]
    assert ids(make_queue(*returning_late, policy=ScorePolicy(alpha=1, beta=0))) == ["1", "0"]


def test_a_ticket_that_comes_back_has_its_old_place() -> None:
    queue = make_queue(*[Stamp(0, 7)] * 3)
    head = queue.pop()
    assert head is not None
    queue.restore(head)
    assert ids(queue) == ["0", "1", "2"]


def test_an_empty_queue_has_no_head_and_nobody_to_shed() -> None:
    queue = make_queue()
    assert (queue.peek(), queue.pop(), queue.lowest(), queue.remove("unknown")) == (None, None, None, None)


def test_the_lowest_is_the_last_below_standard_priority() -> None:
    queue = make_queue(Stamp(-1, 0), Stamp(-1, 1), Stamp(0, 500))
    lowest = queue.lowest()
    assert lowest is not None
    assert lowest.lease_id == "1"


def test_nobody_is_shed_who_brought_a_stamp_from_an_earlier_attempt() -> None:
    queue = make_queue()
    stamp = Stamp(-10, 0)
    queue.push(make_ticket("again", priority=-10, stamp=stamp), stamp)
    assert queue.lowest() is None


def test_new_weights_change_the_order_and_nothing_else() -> None:
    queue = make_queue(Stamp(0, 0), Stamp(1, 50))
    assert ids(queue) == ["0", "1"]
    queue.rekey(ScorePolicy(alpha=10, beta=0.1, epoch=1))
    assert ids(queue) == ["1", "0"]


def test_the_queue_counts_prompts_and_longest_outputs() -> None:
    queue = WaitingQueue(ScorePolicy())
    queue.push(make_ticket("a", num_prompt_tokens=3, max_output_tokens=4), Stamp(0, 0))
    queue.push(make_ticket("b", num_prompt_tokens=10, max_output_tokens=20), Stamp(0, 0))
    queue.remove("a")
    assert queue.num_tokens == 30


@given(st.lists(stamps, max_size=30), policies)
def test_popping_gives_every_ticket_once_in_key_order(stamps: list[Stamp], policy: ScorePolicy) -> None:
    queue = make_queue(*stamps, policy=policy)
    expected = ids(queue)
    popped = pop_all(queue)
    assert [queued.lease_id for queued in popped] == expected
    assert sorted(expected, key=int) == [str(number) for number in range(len(stamps))]
    keys = [policy.key(queued.stamp) for queued in popped]
    assert keys == sorted(keys, reverse=True)


@given(st.lists(stamps, min_size=2, max_size=10), policies)
def test_no_two_tickets_have_the_same_position(stamps: list[Stamp], policy: ScorePolicy) -> None:
    queue = make_queue(*stamps, policy=policy)
    assert len({queue.position(queued) for queued in queue}) == len(stamps)


@given(st.lists(stamps, max_size=30), policies, policies)
def test_rekeying_keeps_the_set_and_equals_a_fresh_queue(
    stamps: list[Stamp], before: ScorePolicy, after: ScorePolicy
) -> None:
    queue = make_queue(*stamps, policy=before)
    queue.rekey(after)
    assert ids(queue) == ids(make_queue(*stamps, policy=after))
    assert queue.num_tokens == sum(queued.ticket.num_tokens for queued in queue.unordered())
