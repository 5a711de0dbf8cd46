"""When an answer that lost its replica goes on, and when it does not."""

from __future__ import annotations

import pytest

from deployments.api.moves import LIVES_AFTER, Moves
from deployments.errors import PoisonRequest, ReplicaFailed
from deployments.user_config import FailoverConfig

DIED = ReplicaFailed("r", "it died", engine_ended=True)
VANISHED = ReplicaFailed("r", "its connection broke")


def test_a_request_that_two_replicas_died_of_is_given_to_no_third() -> None:
    moves = Moves()
    moves.lost(DIED, 0, was_computed=True)
    assert moves.is_suspect
    with pytest.raises(PoisonRequest, match="2 replicas ended while they computed this request"):
        moves.lost(DIED, 0, was_computed=True)


def test_one_that_had_a_token_before_its_second_replica_died_is_not_the_cause_of_that() -> None:
    moves = Moves()
    moves.lost(DIED, 5, was_computed=True)
    moves.lost(DIED, 6, was_computed=True)
    assert (moves.num_strikes, moves.is_suspect) == (2, True)


def test_one_whose_replicas_vanish_without_a_word_of_their_engines_is_not_the_cause_until_there_are_four() -> None:
    moves = Moves(FailoverConfig(max_failovers=10))
    for failure in (VANISHED, DIED, VANISHED):
        moves.lost(failure, 0, was_computed=True)
    with pytest.raises(PoisonRequest, match="4 replicas"):
        moves.lost(VANISHED, 0, was_computed=True)


def test_one_that_gets_on_a_little_and_loses_one_replica_after_the_other_is_the_cause() -> None:
    moves = Moves()
    for num_tokens in (5, 6, 7):
        moves.lost(DIED, num_tokens, was_computed=True)
    with pytest.raises(PoisonRequest, match="4 replicas"):
        moves.lost(DIED, 8, was_computed=True)


def test_one_that_only_waited_for_its_turn_is_not_the_cause() -> None:
    moves = Moves(FailoverConfig(max_failovers=3))
    moves.lost(DIED, 0, was_computed=True)
    for _ in range(2):
        moves.lost(DIED, 0, was_computed=False)
    with pytest.raises(ReplicaFailed, match="it died; 3 were lost before it"):
        moves.lost(DIED, 0, was_computed=False)
    assert moves.num_failovers == 3


def test_without_failovers_the_first_loss_is_the_answers_end() -> None:
    with pytest.raises(ReplicaFailed, match=r"^replica r failed: it died$"):
        Moves(FailoverConfig(max_failovers=0)).lost(DIED, 0, was_computed=True)


def test_an_answer_that_has_got_on_is_suspect_no_more() -> None:
    moves = Moves()
    moves.lost(DIED, 5, was_computed=True)
    moves.lost(DIED, 5 + LIVES_AFTER, was_computed=True)
    assert moves.num_strikes == 1
    with pytest.raises(PoisonRequest):
        moves.lost(DIED, 5 + LIVES_AFTER, was_computed=True)


def test_moves_for_room_are_counted_by_themselves() -> None:
    moves = Moves(FailoverConfig(max_moves=2))
    for _ in range(2):
        moves.moved("r", 0)
    moves.lost(DIED, 0, was_computed=False)
    assert (moves.number, moves.is_suspect) == (3, False)
    with pytest.raises(ReplicaFailed, match="moved 2 times without a token"):
        moves.moved("r", 0)


def test_an_answer_that_gets_on_may_be_moved_as_often_as_there_is_need() -> None:
    moves = Moves(FailoverConfig(max_moves=2))
    for num_tokens in range(20):
        moves.moved("r", num_tokens)
    assert moves.number == 20
    moves.moved("r", 19)
    with pytest.raises(ReplicaFailed):
        moves.moved("r", 19)
