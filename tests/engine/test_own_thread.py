from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.own_thread import OwnThread


def test_all_calls_are_made_on_one_thread_whoever_asks() -> None:
    own = OwnThread("engine")
    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(lambda _: own.call(threading.current_thread), range(20)))
    assert {thread.name for thread in seen} == {"engine"}
    assert len(set(seen)) == 1


def test_the_caller_gets_what_was_raised_and_the_thread_goes_on() -> None:
    own = OwnThread("engine")
    with pytest.raises(ZeroDivisionError):
        own.call(lambda: 1 // 0)
    assert own.call(lambda: 7) == 7
