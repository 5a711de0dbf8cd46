"""The garbage collector waits while something is measured."""

from __future__ import annotations

import gc

import pytest

from benchmarks.undisturbed import without_collections


def test_cycles_are_not_searched_for_meanwhile_and_are_again_afterwards() -> None:
    with without_collections():
        assert not gc.isenabled()

    assert gc.isenabled()


def test_an_error_does_not_leave_it_off() -> None:
    with pytest.raises(KeyError), without_collections():
        raise KeyError

    assert gc.isenabled()
