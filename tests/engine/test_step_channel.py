"""Tests how a step travels between two ranks, over a real connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from engine.step import Step
from engine.step_channel import RankGone, StepChannel
from scheduling.swap_area import BlockCopies


@pytest.fixture
def channels() -> Iterator[tuple[StepChannel, StepChannel]]:
    """Rank 0's end, and another rank's."""
    ends = [StepChannel([connection]) for connection in socket.socketpair()]
    yield ends[0], ends[1]
    for end in ends:
        end.close()


def make_step(num_blocks: int) -> Step:
    tables = [np.arange(num_blocks, dtype=np.int32), np.array([7], np.int32)]
    return Step(
        token_ids=np.array([3, 4, 5], np.int32),
        starts=np.array([16 * num_blocks - 1, 0], np.int32),
        lengths=np.array([1, 2], np.int32),
        tables=tables,
        rows=np.array([0, 2], np.int32),
    )


@pytest.mark.parametrize("num_blocks", [1, 100_000], ids=["small", "larger than what a connection buffers"])
def test_a_step_arrives_as_it_was_sent(channels: tuple[StepChannel, StepChannel], num_blocks: int) -> None:
    leader, follower = channels
    sent = make_step(num_blocks)
    sending = threading.Thread(target=leader.send, args=(sent,))
    sending.start()
    received = follower.receive()
    sending.join(10)
    assert isinstance(received, Step)
    for name in ("token_ids", "starts", "lengths", "rows"):
        assert np.array_equal(getattr(received, name), getattr(sent, name))
    assert all(np.array_equal(own, other) for own, other in zip(received.tables, sent.tables, strict=True))


def test_copies_and_the_end_arrive_in_order(channels: tuple[StepChannel, StepChannel]) -> None:
    leader, follower = channels
    leader.send(BlockCopies(outward=[(1, 2)], inward=[(3, 4), (5, 6)]))
    leader.stop()
    leader.close()
    assert follower.receive() == BlockCopies(outward=[(1, 2)], inward=[(3, 4), (5, 6)])
    assert follower.receive() is None


def send_until_refused(channel: StepChannel) -> None:
    for _ in range(3):
        channel.send(make_step(100_000))


def test_a_rank_that_waits_learns_that_rank_0_is_gone(channels: tuple[StepChannel, StepChannel]) -> None:
    leader, follower = channels
    leader.close()
    with pytest.raises(RankGone, match="rank 0 hung up without a word"):
        follower.receive()


def test_rank_0_learns_that_another_is_gone(channels: tuple[StepChannel, StepChannel]) -> None:
    leader, follower = channels
    follower.close()
    with pytest.raises(RankGone, match="a step could not be sent"):
        send_until_refused(leader)


def test_a_rank_alone_has_nobody_to_tell() -> None:
    channel = StepChannel([])
    channel.send(make_step(1))
    channel.stop()
    channel.close()
