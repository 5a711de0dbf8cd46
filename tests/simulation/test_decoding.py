"""Who decodes, over how much context, and who ends next."""

from __future__ import annotations

from simulation.decoding import Decoding


def test_each_round_adds_a_token_of_context_for_everybody() -> None:
    decoding = Decoding()
    decoding.join("a", (0, 1), num_tokens=11, num_to_come=5)
    decoding.go_on(2)
    decoding.join("b", (0, 2), num_tokens=21, num_to_come=9)
    assert (len(decoding), decoding.num_context_tokens) == (2, 12 + 20)
    assert decoding.go_on(1) == []
    assert decoding.num_context_tokens == 13 + 21


def test_who_has_all_tokens_ends_and_takes_its_context_along() -> None:
    decoding = Decoding()
    decoding.join("a", (0, 1), 11, 2)
    decoding.join("b", (0, 2), 21, 5)
    assert decoding.num_rounds_left() == 2
    assert decoding.go_on(2) == ["a"]
    assert (len(decoding), decoding.num_context_tokens, decoding.num_rounds_left()) == (1, 22, 3)


def test_those_that_end_together_do_so_by_rank() -> None:
    decoding = Decoding()
    for lease_id, rank in (("last", (2.0, 1)), ("first", (-5.0, 3)), ("second", (-5.0, 4))):
        decoding.join(lease_id, rank, 5, 1)
    assert decoding.go_on(1) == ["first", "second", "last"]


def test_after_clear_nobody_decodes() -> None:
    decoding = Decoding()
    decoding.join("a", (0, 1), 11, 2)
    decoding.clear()
    assert (len(decoding), decoding.num_context_tokens, decoding.go_on(5)) == (0, 0, [])
