"""The socket between a replica and rank 0: whole messages both ways, and an end that both sides notice."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import wire
from engine.loop import EngineFailed, EngineLoop
from engine.protocol import Chunk, CommandMessage, EngineStats, FinishReason, Sampled, SequenceOutput, StepMessage
from engine.wire import RankChannel, RankGone, ReplicaChannel, ReplicaGone, serve_loop
from tests.engine.factories import make_config, make_engine, make_loop, make_request

BOUND_S = 20.0


@pytest.fixture
def pair() -> Iterator[tuple[RankChannel, socket.socket]]:
    ours, theirs = socket.socketpair()
    channel = RankChannel(ours)
    yield channel, theirs
    channel.close()
    theirs.close()


def step_message(lease_id: str = "a") -> StepMessage:
    output = SequenceOutput(lease_id, token_ids=[1, 2], finish_reason=FinishReason.STOP)
    return StepMessage([output], EngineStats(num_steps=3))


def test_rank_0_drains_every_command_that_has_arrived(pair: tuple[RankChannel, socket.socket]) -> None:
    channel, replica = pair
    commands = [CommandMessage(added=[make_request("a", logit_bias=((3, 0.5),))]), CommandMessage(cancelled=["b"])]
    replica.sendall(b"".join(map(wire.encode_frame, commands)))
    assert channel.poll() == commands
    assert channel.poll() == []


def test_rank_0_waits_no_longer_than_it_is_told(pair: tuple[RankChannel, socket.socket]) -> None:
    assert pair[0].wait(0.01) == []


def test_rank_0_learns_that_the_replica_hung_up(pair: tuple[RankChannel, socket.socket]) -> None:
    channel, replica = pair
    replica.close()
    with pytest.raises(ReplicaGone):
        channel.wait(BOUND_S)
    with pytest.raises(ReplicaGone):
        channel.send(step_message())


def test_a_replica_that_does_not_read_is_given_up(pair: tuple[RankChannel, socket.socket]) -> None:
    channel, _ = pair
    channel._connection.settimeout(0.01)
    with pytest.raises(ReplicaGone, match="does not read"):
        send_for_ever(channel)


def send_for_ever(channel: RankChannel) -> None:
    while True:
        channel.send(step_message("x" * 10_000))


async def test_the_connection_outlives_the_folder_of_its_file() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rank0.sock"
        listening = asyncio.create_task(asyncio.to_thread(RankChannel.listen, path, BOUND_S))
        replica = await ReplicaChannel.connect(path, BOUND_S)
    rank = await listening
    await replica.send(CommandMessage(cancelled=["a"]))
    assert await asyncio.to_thread(rank.wait, BOUND_S) == [CommandMessage(cancelled=["a"])]
    rank.close()
    await replica.close()


async def test_a_replica_may_connect_before_rank_0_listens_and_the_file_does_not_stay(tmp_path: Path) -> None:
    path = tmp_path / "rank0.sock"
    connecting = asyncio.create_task(ReplicaChannel.connect(path, BOUND_S))
    await asyncio.sleep(0)
    rank = await asyncio.to_thread(RankChannel.listen, path, BOUND_S)
    replica = await connecting
    await replica.send(CommandMessage(cancelled=["a"]))
    assert await asyncio.to_thread(rank.wait, BOUND_S) == [CommandMessage(cancelled=["a"])]
    assert not path.exists()
    rank.close()
    await replica.close()


async def test_connecting_where_nobody_listens_ends(tmp_path: Path) -> None:
    with pytest.raises(RankGone, match="did not listen"):
        await ReplicaChannel.connect(tmp_path / "nobody.sock", 0.05)


def test_listening_where_nobody_connects_ends(tmp_path: Path) -> None:
    with pytest.raises(ReplicaGone, match="no replica came"):
        RankChannel.listen(tmp_path / "rank0.sock", 0.01)
    assert not (tmp_path / "rank0.sock").exists()


async def connected() -> tuple[socket.socket, ReplicaChannel]:
    rank, theirs = socket.socketpair()
    return rank, ReplicaChannel(*await asyncio.open_unix_connection(sock=theirs))


async def test_the_replica_reads_each_step_until_rank_0_is_gone_even_in_the_middle_of_a_frame() -> None:
    rank, replica = await connected()
    frame = wire.encode_frame(step_message())
    rank.sendall(frame + frame[:-1])
    rank.close()
    async with asyncio.timeout(BOUND_S):
        assert [message async for message in replica] == [step_message()]
    await replica.close()


async def test_sending_to_a_rank_0_that_is_gone_says_so() -> None:
    rank, replica = await connected()
    rank.close()
    with pytest.raises(RankGone):
        await cancel_for_ever(replica)
    await replica.close()


async def cancel_for_ever(replica: ReplicaChannel) -> None:
    async with asyncio.timeout(BOUND_S):
        while True:
            await replica.send(CommandMessage(cancelled=["a"]))


def serve_in_thread(loop: EngineLoop, rank: socket.socket) -> tuple[threading.Thread, list[BaseException]]:
    faults: list[BaseException] = []

    def drive() -> None:
        channel = RankChannel(rank)
        try:
            serve_loop(loop, channel)
        except EngineFailed as fault:
            faults.append(fault)
        finally:
            channel.close()

    thread = threading.Thread(target=drive)
    thread.start()
    return thread, faults


async def test_a_loop_is_driven_over_the_socket_until_the_replica_hangs_up() -> None:
    rank, replica = await connected()
    thread, faults = serve_in_thread(make_loop(), rank)
    await replica.send(CommandMessage(added=[make_request("a", max_tokens=3), make_request("b", max_tokens=7)]))
    finished: dict[str, FinishReason] = {}
    async with asyncio.timeout(BOUND_S):
        async for message in replica:
            finished |= {output.lease_id: output.finish_reason for output in message.outputs if output.finish_reason}
            if len(finished) == 2:
                break
    await replica.close()
    await asyncio.to_thread(thread.join, BOUND_S)
    assert finished == {"a": FinishReason.LENGTH, "b": FinishReason.LENGTH}
    assert not thread.is_alive()
    assert faults == []


class BrokenEngine:
    """Breaks in its first step."""

    def __init__(self) -> None:
        self.capacity = make_engine().capacity

    def execute(self, chunks: list[Chunk]) -> list[Sampled]:
        raise RuntimeError("a rank is gone")

    def close(self) -> None: ...


async def test_a_broken_engine_ends_the_driver_after_the_replica_was_told() -> None:
    rank, replica = await connected()
    thread, faults = serve_in_thread(EngineLoop(BrokenEngine(), make_config()), rank)
    await replica.send(CommandMessage(added=[make_request("a")]))
    async with asyncio.timeout(BOUND_S):
        messages = [message async for message in replica]
    await asyncio.to_thread(thread.join, BOUND_S)
    await replica.close()
    assert [output.error for message in messages for output in message.outputs] == ["the engine failed: a rank is gone"]
    assert len(faults) == 1
