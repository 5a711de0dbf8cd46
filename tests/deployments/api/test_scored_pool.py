"""The pool runs the best-scored work first, bounded, and drops what nobody awaits any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from deployments.api.scored_pool import ScoredPool
from deployments.errors import PoolFull

BOUND_S = 20.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Holds the pool's only thread until the test opens it."""
    event = threading.Event()
    yield event
    event.set()


async def _occupied(pool: ScoredPool, gate: threading.Event) -> asyncio.Task[bool]:
    """The task whose work now holds the pool's thread."""
    taken = threading.Event()

    def hold() -> bool:
        taken.set()
        return gate.wait(BOUND_S)

    task = asyncio.create_task(pool.run(0.0, hold))
    await asyncio.wait_for(asyncio.to_thread(taken.wait, BOUND_S), BOUND_S)
    return task


async def test_an_urgent_item_runs_before_a_thousand_bulk_items_that_came_first(gate: threading.Event) -> None:
    pool = ScoredPool(num_threads=1, max_pending=2_000)
    ran: list[str] = []
    held = await _occupied(pool, gate)
    bulk = [asyncio.create_task(pool.run(-10.0, ran.append, f"bulk {i}")) for i in range(1_000)]
    await asyncio.sleep(0)
    urgent = asyncio.create_task(pool.run(10.0, ran.append, "urgent"))
    await asyncio.sleep(0)
    assert pool.num_pending == 1_001
    gate.set()
    await asyncio.wait_for(asyncio.gather(held, urgent, *bulk), BOUND_S)
    assert ran == ["urgent", *(f"bulk {i}" for i in range(1_000))]


async def test_a_full_pool_refuses_an_equal_newcomer_at_once(gate: threading.Event) -> None:
    pool = ScoredPool(num_threads=1, max_pending=1)
    held = await _occupied(pool, gate)
    waiting = asyncio.create_task(pool.run(0.0, int))
    await asyncio.sleep(0)
    with pytest.raises(PoolFull, match="1 prompts already wait"):
        await pool.run(0.0, int)
    gate.set()
    assert await asyncio.gather(held, waiting) == [True, 0]


async def test_a_full_pool_sheds_its_lowest_for_a_better_newcomer(gate: threading.Event) -> None:
    pool = ScoredPool(num_threads=1, max_pending=2)
    held = await _occupied(pool, gate)
    low = asyncio.create_task(pool.run(-1.0, int))
    middle = asyncio.create_task(pool.run(0.0, int))
    await asyncio.sleep(0)
    high = asyncio.create_task(pool.run(1.0, int))
    with pytest.raises(PoolFull):
        await asyncio.wait_for(low, BOUND_S)
    gate.set()
    assert await asyncio.gather(held, middle, high) == [True, 0, 0]
    assert pool.num_pending == 0


async def test_cancelled_work_never_runs_and_frees_its_place(gate: threading.Event) -> None:
    pool = ScoredPool(num_threads=1, max_pending=1)
    ran: list[str] = []
    held = await _occupied(pool, gate)
    cancelled = asyncio.create_task(pool.run(0.0, ran.append, "cancelled"))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert pool.num_pending == 0
    kept = asyncio.create_task(pool.run(0.0, ran.append, "kept"))
    gate.set()
    await asyncio.wait_for(asyncio.gather(held, kept), BOUND_S)
    assert ran == ["kept"]


async def test_what_the_work_raises_reaches_its_caller_and_the_thread_lives_on() -> None:
    pool = ScoredPool(num_threads=1, max_pending=8)
    with pytest.raises(ValueError, match="invalid literal"):
        await pool.run(0.0, int, "x")
    assert await asyncio.wait_for(pool.run(0.0, int, "7"), BOUND_S) == 7


async def test_work_that_raises_stop_iteration_keeps_no_result_after_it_from_its_caller(gate: threading.Event) -> None:
    pool = ScoredPool(num_threads=1, max_pending=8)
    held = await _occupied(pool, gate)
    ended = asyncio.create_task(pool.run(1.0, lambda: next(iter(()))))
    others = [asyncio.create_task(pool.run(0.0, int)) for _ in range(3)]
    await asyncio.sleep(0)
    gate.set()

    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(ended, BOUND_S)
    assert await asyncio.wait_for(asyncio.gather(*others), BOUND_S) == [0, 0, 0]
    assert await held


async def test_results_that_finish_while_the_loop_is_busy_arrive_in_one_wake_up() -> None:
    pool = ScoredPool(num_threads=1, max_pending=8)
    wake_ups: list[int] = []
    loop = asyncio.get_running_loop()
    deliver = pool._deliver

    def counted() -> None:
        wake_ups.append(len(pool._outcomes))
        deliver()

    pool._deliver = counted  # type: ignore[method-assign]
    last_ran = threading.Event()
    tasks = [asyncio.create_task(pool.run(0.0, int)) for _ in range(3)]
    tasks.append(asyncio.create_task(pool.run(-1.0, last_ran.set)))
    await asyncio.sleep(0)
    last_ran.wait(BOUND_S)  # blocks the loop on purpose
    assert loop.is_running()
    await asyncio.wait_for(asyncio.gather(*tasks), BOUND_S)
    assert wake_ups[0] >= 3


async def test_closing_cancels_what_waits(gate: threading.Event) -> None:
    pool = ScoredPool(num_threads=1, max_pending=8)
    held = await _occupied(pool, gate)
    waiting = asyncio.create_task(pool.run(0.0, int))
    await asyncio.sleep(0)
    pool.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    assert await held
