"""Tests that the end of a rank is noticed, and that a goodbye alarms nobody."""

from __future__ import annotations

import socket
import threading

from engine.lifeline import Lifeline

TIMEOUT_S = 10.0


def connected(on_death: threading.Event) -> tuple[Lifeline, socket.socket]:
    """A rank's lifeline, and the socket of the peer at its other end."""
    ours, peer = socket.socketpair()
    return Lifeline([ours], on_death.set), peer


def test_a_peer_whose_connection_ends_is_taken_for_dead() -> None:
    died = threading.Event()
    _, peer = connected(died)
    peer.close()
    assert died.wait(TIMEOUT_S)


def test_a_peer_that_said_goodbye_may_go() -> None:
    died, also_died = threading.Event(), threading.Event()
    ours, theirs = socket.socketpair()
    leaving, staying = Lifeline([ours], died.set), Lifeline([theirs], also_died.set)
    leaving.release()
    staying.release()
    staying.join(TIMEOUT_S)
    leaving.join(TIMEOUT_S)
    ours.close()
    theirs.close()
    assert not died.is_set()
    assert not also_died.is_set()


def test_releasing_after_the_peer_has_gone_is_no_error() -> None:
    died = threading.Event()
    lifeline, peer = connected(died)
    peer.close()
    assert died.wait(TIMEOUT_S)
    lifeline.release()
