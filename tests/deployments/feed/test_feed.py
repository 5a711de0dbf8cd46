"""Tokens from replicas to an ingress, over real connections on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
import uvloop

from deployments.errors import ReplicaFailed
from deployments.feed import mailbox as mailbox_module
from deployments.feed import receiver, sender
from deployments.feed.messages import CallStarted, FeedMessage, encode
from deployments.feed.receiver import TokenFeed
from deployments.feed.sender import Feed, Feeds, IngressGone
from deployments.generate_call import Entered, FeedAddress, GenerationEvent, Started
from engine.framing import frame
from engine.protocol import FinishReason, SequenceOutput, TokenLogprob
from fastserve.ports import free_port
from scheduling.score import Stamp

WITHIN_S = 5.0
HOST = "127.0.0.1"
STARTED = Started(0.5, 1.0, "replica-7", Stamp(1.0, 2.0, 0.25))


class Replica:
    """The replica's end, and the feeds that it lost."""

    def __init__(self) -> None:
        self.lost: list[Feed] = []
        self.has_lost = asyncio.Event()
        self.feeds = Feeds(self._lose)

    def _lose(self, feed: Feed) -> None:
        self.lost.append(feed)
        self.has_lost.set()


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[tuple[TokenFeed, FeedAddress]]:
    feed = TokenFeed()
    try:
        async with asyncio.timeout(WITHIN_S):
            yield feed, await feed.listen(HOST)
    finally:
        feed.close()


def outputs(lease_id: str) -> list[SequenceOutput]:
    first = SequenceOutput(lease_id, [1], [TokenLogprob(1, -0.5, [(2, -0.75)])], num_cached_tokens=16)
    return [first, SequenceOutput(lease_id, [2], finish_reason=FinishReason.STOP)]


async def read_all(feed: TokenFeed, lease_id: str) -> list[GenerationEvent]:
    with feed.mailbox(lease_id) as mailbox:
        return [event async for event in mailbox.read()]


async def test_each_call_reads_its_own_tokens_from_the_one_connection_of_its_replica() -> None:
    async with listening() as (feed, address):
        replica = Replica()
        calls = [asyncio.create_task(read_all(feed, lease_id)) for lease_id in ("a", "b")]
        await asyncio.sleep(0)
        connection, same = await asyncio.gather(replica.feeds.reach(address), replica.feeds.reach(address))
        for lease_id in ("a", "b~2"):  # a call that was sent again speaks under another lease
            connection.start(CallStarted(lease_id, STARTED))
        connection.put([outputs("b~2")[0], outputs("a")[0]])
        connection.put([outputs("a")[1], outputs("b~2")[1]])

        assert connection is same
        assert await asyncio.gather(*calls) == [[STARTED, *outputs("a")], [STARTED, *outputs("b~2")]]


async def test_tokens_for_a_call_that_has_ended_are_dropped() -> None:
    async with listening() as (feed, address):
        connection = await Replica().feeds.reach(address)
        call = asyncio.create_task(read_all(feed, "b"))
        await asyncio.sleep(0)
        connection.put(outputs("a"))
        connection.start(CallStarted("b", STARTED))
        connection.put(outputs("b"))

        assert await call == [STARTED, *outputs("b")]


async def test_a_replica_that_hangs_up_fails_the_calls_that_it_was_answering_and_no_others() -> None:
    async with listening() as (feed, address):
        calls = [asyncio.create_task(read_all(feed, lease_id)) for lease_id in ("a", "b")]
        await asyncio.sleep(0)
        breaking, staying = await Replica().feeds.reach(address), await Replica().feeds.reach(address)
        breaking.start(CallStarted("a", STARTED))
        staying.start(CallStarted("b", STARTED))
        breaking.close()

        with pytest.raises(ReplicaFailed, match="replica-7"):
            await calls[0]
        staying.put(outputs("b"))
        assert await calls[1] == [STARTED, *outputs("b")]


@pytest.mark.parametrize("said", [b"x" * receiver.SECRET_BYTES, b"GET / HTTP/1.1\r\nhost: somewhere\r\n\r\n"])
async def test_who_does_not_know_the_secret_is_hung_up_on_unheard(said: bytes) -> None:
    async with listening() as (feed, address):
        call = asyncio.create_task(read_all(feed, "a"))
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(said + encode(FeedMessage([CallStarted("a", STARTED)], outputs("a"))))

        assert await reader.read() == b""
        assert not call.done()
        call.cancel()
        writer.close()


async def test_who_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "INTRODUCTION_S", 0.01)
    async with listening() as (_, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)

        assert await reader.read() == b""
        writer.close()


async def test_who_knows_the_secret_may_take_its_time_to_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "INTRODUCTION_S", 0.01)
    async with listening() as (feed, address):
        call = asyncio.create_task(read_all(feed, "a"))
        connection = await Replica().feeds.reach(address)
        _, waiting = await asyncio.wait([call], timeout=0.02)  # longer than strangers have
        assert waiting
        connection.start(CallStarted("a", STARTED))
        connection.put(outputs("a"))

        assert await call == [STARTED, *outputs("a")]


@pytest.mark.parametrize("said", [frame(b"\xc1"), (2**31).to_bytes(4)], ids=["not msgpack", "too long"])
async def test_who_speaks_something_else_is_hung_up_on(said: bytes) -> None:
    async with listening() as (_, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(address.secret + said)

        assert await reader.read() == b""
        writer.close()


async def test_an_ingress_that_is_gone_is_told_of_and_reached_anew_when_it_is_back() -> None:
    replica, connections = Replica(), asyncio.Queue[asyncio.StreamWriter]()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await connections.put(writer)

    async with asyncio.timeout(WITHIN_S), await asyncio.start_server(accept, HOST, 0) as server:
        address = FeedAddress(HOST, server.sockets[0].getsockname()[1], b"s" * receiver.SECRET_BYTES)
        connection = await replica.feeds.reach(address)
        (await connections.get()).close()
        await replica.has_lost.wait()

        assert replica.lost == [connection]
        connection.put(outputs("a"))
        assert await replica.feeds.reach(address) is not connection
        (await connections.get()).close()


async def test_an_ingress_that_stops_reading_is_given_up_when_too_much_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sender, "MAX_UNREAD_BYTES", 1000)
    replica, stop = Replica(), asyncio.Event()

    async def never_read(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await stop.wait()
        writer.close()

    async with asyncio.timeout(WITHIN_S), await asyncio.start_server(never_read, HOST, 0) as server:
        address = FeedAddress(HOST, server.sockets[0].getsockname()[1], b"s" * receiver.SECRET_BYTES)
        connection = await replica.feeds.reach(address)
        while not connection.is_lost:
            connection.put(outputs("a" * 10_000))
            await asyncio.sleep(0)
        stop.set()

        assert replica.lost == [connection]


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_ingress_whose_host_takes_nothing_more_is_given_up(
    new_loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "UNHEARD_S", 0.2)

    async def given_up() -> None:
        replica = Replica()
        with socket.create_server((HOST, 0)) as unread:  # what connects is never read, as by a host that is cut off
            address = FeedAddress(HOST, unread.getsockname()[1], b"s" * receiver.SECRET_BYTES)
            connection = await replica.feeds.reach(address)
            connection.put([SequenceOutput("a", [1] * 12_000_000)])
            async with asyncio.timeout(WITHIN_S):
                await replica.has_lost.wait()
        assert replica.lost == [connection]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(given_up())


async def test_an_ingress_that_cannot_be_reached_is_said_to_be_gone_each_time() -> None:
    replica = Replica()
    address = FeedAddress(HOST, free_port(), b"s" * receiver.SECRET_BYTES)

    for _ in range(2):
        with pytest.raises(IngressGone, match=f"{HOST}:{address.port} cannot be reached"):
            await replica.feeds.reach(address)


async def test_nothing_is_kept_of_ingresses_that_could_not_be_reached() -> None:
    feeds = Replica().feeds
    for _ in range(3):
        with pytest.raises(IngressGone):
            await feeds.reach(FeedAddress(HOST, free_port(), b"s" * receiver.SECRET_BYTES))

    await asyncio.sleep(0)
    assert feeds.num_kept == 0


async def test_an_ingress_that_hangs_up_at_once_gets_no_call_that_nobody_would_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replica, address = Replica(), FeedAddress(HOST, 1, b"s" * receiver.SECRET_BYTES)

    async def connect(address: FeedAddress) -> Feed:
        feed = Feed(address.secret, lambda lost: None)
        feed.is_lost = True  # before whoever waits for it runs again
        return feed

    monkeypatch.setattr(replica.feeds, "_connect", connect)
    with pytest.raises(IngressGone, match="has hung up"):
        await replica.feeds.reach(address)


def test_an_address_does_not_show_its_secret() -> None:
    address = FeedAddress(HOST, 1, b"hidden")

    assert "hidden" not in repr(replace(address, port=2))


async def test_that_a_suspect_is_computed_is_told_to_the_attempt_that_counts() -> None:
    replica = Replica()
    async with listening() as (feed, address):
        with feed.mailbox("a") as mailbox:
            sending = await replica.feeds.reach(address)
            sending.start(CallStarted("a", STARTED))
            sending.enter("unknown")
            sending.enter("a")
            sending.put(outputs("a"))
            events = [event async for event in mailbox.read()]
    assert [type(event) for event in events] == [Started, Entered, SequenceOutput, SequenceOutput]


async def test_a_replica_that_says_nothing_has_lost_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "BEAT_S", 0.01)
    monkeypatch.setattr(receiver, "SILENT_S", 0.03)
    replica = Replica()
    async with listening() as (feed, address):
        with feed.mailbox("a") as mailbox:
            (await replica.feeds.reach(address)).start(CallStarted("a", STARTED))
            with pytest.raises(ReplicaFailed, match="its connection broke"):
                _ = [event async for event in mailbox.read()]
        await replica.has_lost.wait()


async def test_a_call_that_is_lost_on_its_way_to_a_replica_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_module, "BEAT_S", 0.01)
    monkeypatch.setattr(mailbox_module, "STARTS_WITHIN_S", 0.03)
    async with listening() as (feed, _):
        call = asyncio.create_task(read_all(feed, "a"))
        await asyncio.sleep(0)
        await asyncio.to_thread(feed.expect, "a~1", "r1")  # the router may have a thread of its own
        feed.expect("unknown", "r1")

        with pytest.raises(ReplicaFailed, match="has not started there"):
            await call


async def test_a_replica_that_beats_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "BEAT_S", 0.05)
    monkeypatch.setattr(receiver, "SILENT_S", 0.2)
    monkeypatch.setattr(sender, "BEAT_S", 0.01)
    replica = Replica()
    async with listening() as (feed, address):
        beating = asyncio.create_task(replica.feeds.beat())
        with feed.mailbox("a") as mailbox:
            sending = await replica.feeds.reach(address)
            sending.start(CallStarted("a", STARTED))
            _, going_on = await asyncio.wait([beating], timeout=0.5)  # longer than silence may last
            assert going_on
            sending.put(outputs("a"))
            assert len([event async for event in mailbox.read()]) == 3
        beating.cancel()
