"""Which ports a service is given, when others run on the same machine."""

from __future__ import annotations

import contextlib
import socket

from fastserve.ports import LOOPBACK, claimed_range, free_port, is_taken

RANGE_SIZE = 999  # the claim is a port so far above the first


def free_start() -> int:
    """The first port of a range that can be claimed: nobody has this port, nor that of the claim."""
    for _ in range(1000):
        first = free_port()
        with contextlib.suppress(OSError, OverflowError), socket.create_server((LOOPBACK, first + RANGE_SIZE)):
            return first
    raise AssertionError("all ports are taken")


def test_two_services_on_one_machine_get_ports_of_their_own() -> None:
    with claimed_range() as one, claimed_range() as other:
        assert one is not None
        assert other is not None
        assert set(range(one.first, one.last + 1)).isdisjoint(range(other.first, other.last + 1))


def test_a_range_whose_first_port_is_in_use_is_left_alone() -> None:
    with socket.create_server((LOOPBACK, free_start())) as used:
        starts = [used.getsockname()[1], free_start()]
        with claimed_range(starts) as claimed:
            assert claimed is not None
            assert claimed.first == starts[1]
            assert not is_taken(starts[0] + RANGE_SIZE)


def test_the_end_of_a_claim_frees_its_range() -> None:
    starts = [free_start()]
    with claimed_range(starts) as claimed:
        assert claimed is not None
        assert is_taken(claimed.last + 1)
    with claimed_range(starts) as again:
        assert again == claimed


def test_when_every_range_is_claimed_there_is_none() -> None:
    starts = [free_start()]
    with claimed_range(starts) as claimed, claimed_range(starts) as left:
        assert claimed is not None
        assert left is None
