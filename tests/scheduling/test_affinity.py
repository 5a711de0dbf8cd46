"""A request goes where its prompt is cached, if that costs neither the order nor the balance."""

from __future__ import annotations

from scheduling.affinity import PREFIX_TOKENS, PrefixAffinity
from scheduling.dispatcher import Dispatcher
from tests.factories import make_dispatcher, make_replica, make_ticket
from tests.scheduling.dispatching import granted


def place(dispatcher: Dispatcher, lease_id: str, *prefixes: str, priority: float = 0) -> str:
    dispatcher.enqueue(make_ticket(lease_id, priority=priority, prefixes=prefixes), "ingress", 0)
    [(_, grant)] = dispatcher.dispatch(0)
    return grant.replica_id


def test_a_request_goes_where_most_of_its_prompt_is() -> None:
    dispatcher = make_dispatcher(*(make_replica(name, max_num_seqs=8) for name in "abc"))
    assert [place(dispatcher, "1", "x"), place(dispatcher, "2", "y", "y2")] == ["a", "b"]
    assert place(dispatcher, "3", "x", "x2") == "a"
    assert place(dispatcher, "4", "y", "y2", "y3") == "b"
    assert place(dispatcher, "5", "z") == "c"


def test_a_replica_that_is_far_busier_is_not_preferred() -> None:
    dispatcher = make_dispatcher(*(make_replica(name, max_num_seqs=4) for name in "ab"))
    assert [place(dispatcher, str(number), "x") for number in range(4)] == ["a", "a", "a", "b"]


def test_the_head_goes_first_wherever_its_prompt_is() -> None:
    dispatcher = make_dispatcher(*(make_replica(name, max_num_seqs=1) for name in "ab"))
    assert [place(dispatcher, "1", "x"), place(dispatcher, "2", "y")] == ["a", "b"]
    dispatcher.claim("2", "b")
    dispatcher.enqueue(make_ticket("head", prefixes=("y",)), "ingress", 1)
    dispatcher.enqueue(make_ticket("second", prefixes=("x",)), "ingress", 2)
    dispatcher.release("1")
    assert granted(dispatcher, 0.5) == ["head"]


def test_what_a_lost_replica_had_is_forgotten() -> None:
    dispatcher = make_dispatcher(*(make_replica(name, max_num_seqs=8) for name in "abc"))
    assert place(dispatcher, "1", "x") == "a"
    dispatcher.remove_replica("a")
    dispatcher.register_replica(make_replica("a", max_num_seqs=4, incarnation=2))
    assert place(dispatcher, "2", "x") == "b"


def test_no_more_is_remembered_of_a_replica_than_its_cache_holds() -> None:
    affinity = PrefixAffinity()
    for number in range(10):
        affinity.remember("a", [str(number)], max_tokens=3 * PREFIX_TOKENS)
    assert [bool(affinity.holders([str(number)])) for number in range(10)] == [False] * 7 + [True] * 3


def test_holders_of_more_come_first() -> None:
    affinity = PrefixAffinity()
    affinity.remember("a", ["1"], 1_000)
    affinity.remember("b", ["1", "2"], 1_000)
    assert affinity.holders(["1", "2", "3"]) == [["b"], ["a"]]
