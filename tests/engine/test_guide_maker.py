"""Compiling beside the steps: streams go on meanwhile, and who waits for a guide may leave, fail or be next."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engine.backends.fake import fake_token
from engine.grammar import GrammarRefused, Grammars, Guide
from engine.guide_maker import GuideMaker, GuideOrder
from engine.loop import EngineFailed, EngineLoop
from engine.protocol import Chunk, CommandMessage, EngineRequest, FinishReason, Sampled
from engine.wire import RankChannel, encode_frame, serve_loop
from tests.engine.factories import make_config, make_engine, make_guides, make_request, run_to_end, tokens_of
from tests.engine.fake_answers import Saboteur, reasons
from tests.engine.grammars import END, PERSON, make_grammars, of_schema

BOUND_S = 20.0
PEOPLE = of_schema(PERSON)


class SlowGrammars(Grammars):
    """Each compilation waits until it may end."""

    def __init__(self) -> None:
        super().__init__(make_grammars()._load)
        self.began = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def guide(self, grammar: str, output_token_ids: object = ()) -> Guide:
        self.began.release()
        assert self.may_end.acquire(timeout=BOUND_S)
        return super().guide(grammar, output_token_ids)  # type: ignore[arg-type]


class Panic(BaseException):
    """Like that of the library."""


class Crashing(Grammars):
    """Fails as no grammar should."""

    def guide(self, grammar: str, output_token_ids: object = ()) -> Guide:
        raise Panic


def make_loop(grammars: Grammars | None = None, **settings: object) -> EngineLoop:
    engine = make_engine(eos_token_ids=(END,), **settings)
    return EngineLoop(engine, make_config(**settings), grammars or make_grammars())


def guided(lease_id: str = "guided", **settings: object) -> EngineRequest:
    return make_request(lease_id, max_tokens=3, grammar=PEOPLE, **settings)  # type: ignore[arg-type]


def order(lease_id: str, key: float = 0.0, grammar: str = PEOPLE) -> GuideOrder[str]:
    return GuideOrder(lease_id, f"asker of {lease_id}", key, grammar, [])


def made_by(maker: GuideMaker[str]) -> list[str]:
    return [made.order.lease_id for made in maker.take()]


def heard_until(replica: socket.socket, mark: bytes) -> bytes:
    heard = b""
    while mark not in heard:
        data = replica.recv(4096)
        assert data
        heard += data
    return heard


@contextmanager
def served(loop: EngineLoop) -> Iterator[tuple[socket.socket, threading.Thread]]:
    """The other end of the loop's socket, and the thread that drives it."""
    ours, theirs = socket.socketpair()
    channel = RankChannel(ours)
    thread = threading.Thread(target=serve_loop, args=(loop, channel))
    thread.start()
    theirs.settimeout(BOUND_S)
    yield theirs, thread
    theirs.close()
    thread.join(BOUND_S)
    assert not thread.is_alive()
    channel.close()


def test_streams_go_on_while_a_grammar_compiles_and_its_sequence_joins_when_its_guide_is_made() -> None:
    loop = make_loop(max_decode_stretch=None)
    loop.apply(CommandMessage(added=[make_request("stream", max_tokens=9), guided()]))
    before = [[output.lease_id for output in loop.step().outputs] for _ in range(3)]
    make_guides(loop)
    after = [output.lease_id for output in loop.step().outputs]
    assert before == [["stream"]] * 3
    assert sorted(after) == ["guided", "stream"]


def test_a_driven_loop_streams_while_a_grammar_compiles_and_wakes_up_when_it_is_done() -> None:
    grammars = SlowGrammars()
    with served(make_loop(grammars)) as (replica, _):
        replica.sendall(encode_frame(CommandMessage(added=[guided()])))
        assert grammars.began.acquire(timeout=BOUND_S)
        replica.sendall(encode_frame(CommandMessage(added=[make_request("stream", max_tokens=4)])))
        heard = heard_until(replica, b"length")
        assert b"stream" in heard
        assert b"guided" not in heard
        grammars.may_end.release()  # nothing else happens any more: the loop sleeps
        heard_until(replica, b"guided")


def test_a_replica_may_hang_up_while_a_grammar_compiles() -> None:
    grammars = SlowGrammars()
    with served(make_loop(grammars)) as (replica, thread):
        replica.sendall(encode_frame(CommandMessage(added=[guided()])))
        assert grammars.began.acquire(timeout=BOUND_S)
        replica.close()
        thread.join(BOUND_S)
        assert not thread.is_alive()
        grammars.may_end.release()


def test_who_waits_for_a_guide_counts_as_waiting_and_the_loop_as_busy_with_nothing_to_do() -> None:
    loop = make_loop()
    loop.apply(CommandMessage(added=[guided()]))
    assert (loop.stats.num_waiting, loop.is_idle, loop.has_work) == (1, False, False)
    make_guides(loop)
    assert (loop.stats.num_waiting, loop.is_idle, loop.has_work) == (1, False, True)


@pytest.mark.parametrize("is_made", [False, True])
@pytest.mark.parametrize("leaves", [FinishReason.CANCELLED, FinishReason.MOVED])
def test_who_leaves_before_it_has_joined_is_told_so_and_leaves_nothing(leaves: FinishReason, is_made: bool) -> None:
    loop = make_loop()
    loop.apply(CommandMessage(added=[guided()]))
    if is_made:
        make_guides(loop)
    loop.apply(CommandMessage(**{leaves: ["guided"]}))
    make_guides(loop)
    [output] = loop.step().outputs
    assert (output.finish_reason, output.num_served_tokens) == (leaves, 0)
    assert (loop.is_idle, loop.has_work) == (True, False)
    loop.check_idle()


def test_who_leaves_while_its_grammar_compiles_does_not_come_back_with_its_guide() -> None:
    grammars = SlowGrammars()
    loop = make_loop(grammars)
    loop.apply(CommandMessage(added=[guided()]))
    making = threading.Thread(target=loop.guides.make_one)
    making.start()
    assert grammars.began.acquire(timeout=BOUND_S)
    loop.apply(CommandMessage(cancelled=["guided"]))
    grammars.may_end.release()
    making.join(BOUND_S)
    assert reasons(loop.step().outputs) == [FinishReason.CANCELLED]
    assert (loop.is_idle, loop.has_work) == (True, False)


def test_adding_one_again_that_waits_for_its_guide_changes_nothing() -> None:
    loop = make_loop()
    loop.apply(CommandMessage(added=[guided()]))
    assert len(tokens_of(run_to_end(loop, guided())["guided"])) == 3


def test_a_panic_of_the_compiler_ends_its_request_alone() -> None:
    outputs = run_to_end(make_loop(Crashing(make_grammars()._load)), guided(), make_request("stream"))
    assert outputs["guided"][0].error == "grammar: it is too complex"
    assert reasons(outputs["stream"]) == [FinishReason.LENGTH]


def test_an_engine_that_fails_loses_those_who_wait_for_their_guides_too() -> None:
    class Broken(Saboteur):
        def execute(self, chunks: list[Chunk]) -> list[Sampled]:
            raise RuntimeError("the device is gone")

    loop = EngineLoop(Broken(), make_config(), make_grammars())
    loop.apply(CommandMessage(added=[guided(), make_request("stream")]))
    with pytest.raises(EngineFailed) as failure:
        loop.step()
    ends = {output.lease_id: output.finish_reason for output in failure.value.last_message.outputs}
    assert ends == {"guided": FinishReason.LOST, "stream": FinishReason.LOST}


def test_when_its_guide_was_made_does_not_change_what_an_answer_says_or_who_is_served_first() -> None:
    early, late = make_loop(max_num_seqs=1), make_loop(max_num_seqs=1)
    requests = [guided("low", priority=1), guided("high", priority=2)]
    answers = run_to_end(early, *requests)
    late.apply(CommandMessage(added=[*requests, make_request("first", max_tokens=4)]))
    late.step()
    others = run_to_end(late)
    for lease_id in ("low", "high"):
        assert tokens_of(others[lease_id]) == tokens_of(answers[lease_id])
    assert list(answers) == [lease_id for lease_id in others if lease_id != "first"] == ["high", "low"]


def test_the_best_key_is_made_first_and_the_earlier_where_keys_are_equal() -> None:
    maker: GuideMaker[str] = GuideMaker(make_grammars(), max_waiting=9)
    for lease_id, key in (("a", 0.0), ("b", 5.0), ("c", 0.0)):
        maker.ask(order(lease_id, key))
    while maker.make_one():
        continue
    assert made_by(maker) == ["b", "a", "c"]


def test_no_more_wait_than_may_and_who_leaves_makes_room() -> None:
    maker: GuideMaker[str] = GuideMaker(make_grammars(), max_waiting=2)
    maker.ask(order("a"))
    maker.ask(order("b"))
    with pytest.raises(GrammarRefused, match="2 others wait"):
        maker.ask(order("c"))
    assert maker.drop("a")
    assert not maker.drop("a")
    maker.ask(order("c"))
    assert maker.lease_ids == ["b", "c"]


def test_what_was_made_is_taken_once_and_says_who_asked() -> None:
    maker: GuideMaker[str] = GuideMaker(make_grammars(), max_waiting=2)
    maker.ask(order("good"))
    maker.ask(order("bad", grammar="nonsense"))
    while maker.make_one():
        continue
    good, bad = maker.take()
    assert (good.order.asker, isinstance(good.outcome, Guide)) == ("asker of good", True)
    assert isinstance(bad.outcome, GrammarRefused)
    assert (maker.take(), maker.lease_ids, maker.has_made) == ([], [], False)


def test_the_thread_tells_of_each_guide_and_of_none_once_it_has_been_let_go() -> None:
    grammars, told = SlowGrammars(), threading.Semaphore(0)
    maker: GuideMaker[str] = GuideMaker(grammars, max_waiting=2)
    with maker.beside(told.release):
        maker.ask(order("a"))
        grammars.may_end.release()
        assert told.acquire(timeout=BOUND_S)
        assert made_by(maker) == ["a"]
        maker.ask(order("b"))
        for _ in range(2):
            assert grammars.began.acquire(timeout=BOUND_S)
    [thread] = [thread for thread in threading.enumerate() if thread.name == "guides"]
    grammars.may_end.release()
    thread.join(BOUND_S)
    assert not thread.is_alive()
    assert not told.acquire(blocking=False)


def test_one_without_a_grammar_never_waits_for_a_guide() -> None:
    loop = make_loop()
    loop.apply(CommandMessage(added=[make_request("plain", seed=1)]))
    assert tokens_of(loop.step().outputs) == [fake_token(1, 10)]
