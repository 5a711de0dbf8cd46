"""The heap with cheap removal: the same as sorting what is left, without growing."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scheduling.lazy_heap import LazyHeap


def test_discarded_ids_leave_no_garbage_behind() -> None:
    heap = LazyHeap()
    for number in range(10_000):
        heap.push(str(number), (number,))
        if number >= 10:
            heap.discard(str(number))
    assert len(heap) == 10
    assert len(heap._heap) < 100


class LazyHeapMachine(RuleBasedStateMachine):
    """The heap against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.heap = LazyHeap()
        self.model: dict[str, tuple[float, ...]] = {}

    @rule(item_id=st.sampled_from("abcdef"), position=st.integers(0, 5))
    def push(self, item_id: str, position: int) -> None:
        self.heap.push(item_id, (position,))
        self.model[item_id] = (position,)

    @rule(item_id=st.sampled_from("abcdef"))
    def discard(self, item_id: str) -> None:
        self.heap.discard(item_id)
        self.model.pop(item_id, None)

    @precondition(lambda self: self.model)
    @rule(limit=st.integers(0, 5))
    def pop_up_to(self, limit: int) -> None:
        due = sorted((position, item_id) for item_id, position in self.model.items() if position <= (limit,))
        assert self.heap.pop_up_to((limit,)) == [item_id for _, item_id in due]
        for _, item_id in due:
            del self.model[item_id]

    @invariant()
    def shows_the_smallest(self) -> None:
        smallest = min(((position, item_id) for item_id, position in self.model.items()), default=(None, None))
        assert (self.heap.first_position(), self.heap.first()) == smallest
        assert len(self.heap) == len(self.model)


TestLazyHeap = LazyHeapMachine.TestCase
TestLazyHeap.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
