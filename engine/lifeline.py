"""Owns the tie between the ranks of one replica: when one dies, the others end. Knows nothing of models or steps.

A rank inside a shared-memory all-reduce spins for ever when a peer is gone, and one that waits for a step may notice
late. So each rank holds a connection to rank 0, which the system closes with the process, and a thread listens to it.
A rank that hangs without dying is for `engine.watchdog` to find.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable

from engine.process_group import World
from engine.rank_connections import connect_ranks

_GOODBYE = b"."
_log = logging.getLogger(__name__)


def end_process() -> None:
    """Ends this process at once: it may hang in a collective that no exception can leave."""
    _log.error("another rank of this replica is gone; ending")
    os._exit(1)


class Lifeline:
    """The connections of one rank: rank 0 has one to every other, each of these one to rank 0."""

    def __init__(self, connections: list[socket.socket], on_death: Callable[[], None]) -> None:
        self._connections = connections
        self._listeners = [threading.Thread(target=_listen, args=(each, on_death), daemon=True) for each in connections]
        for listener in self._listeners:
            listener.start()

    def release(self) -> None:
        """Says goodbye, so that the end of this rank alarms nobody."""
        for connection in self._connections:
            try:
                connection.sendall(_GOODBYE)
            except OSError:
                continue  # that peer has gone first

    def join(self, timeout_s: float) -> None:
        """Waits until every peer has said goodbye or has gone."""
        for listener in self._listeners:
            listener.join(timeout_s)


def tie(world: World, master_addr: str, on_death: Callable[[], None] = end_process) -> Lifeline:
    """Connects every rank to rank 0; all ranks must call it. `on_death` runs in a thread of its own."""
    return Lifeline(connect_ranks(world, master_addr), on_death)


def _listen(connection: socket.socket, on_death: Callable[[], None]) -> None:
    try:
        last_words = connection.recv(1)
    except OSError:
        last_words = b""
    if last_words != _GOODBYE:
        on_death()
