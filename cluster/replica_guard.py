"""Owns a rank's watch over the replica that it belongs to: one that asks nothing any more is stopped, and ended.

A process that is stopped closes no connection and says nothing, so that for all others it is merely slow. Knows no Ray.
"""

from __future__ import annotations

import logging
import threading

import psutil

BEAT_S = 1.0
MAX_SILENT_BEATS = 5  # of this process's own clock: while it is stopped itself, none is counted
_log = logging.getLogger(__name__)


class ReplicaGuard:
    """Watches from the first time that the replica was heard of."""

    def __init__(self, beat_s: float = BEAT_S, max_silent_beats: int = MAX_SILENT_BEATS) -> None:
        self._beat_s = beat_s
        self._max_silent_beats = max_silent_beats
        self._num_silent_beats = 0
        self.watching: threading.Thread | None = None

    def heard(self, pid: int) -> None:
        """The replica, a process of this node, has asked whether this rank is well."""
        self._num_silent_beats = 0
        if self.watching is None:
            replica = psutil.Process(pid)  # it and no other that may have its number later
            self.watching = threading.Thread(target=self._watch, args=(replica,), name="replica-guard", daemon=True)
            self.watching.start()

    def _watch(self, replica: psutil.Process) -> None:
        never = threading.Event()
        while not never.wait(self._beat_s):
            self._num_silent_beats += 1
            if self._num_silent_beats > self._max_silent_beats:
                silent_s = self._num_silent_beats * self._beat_s
                _log.error("the replica (process %d) has asked nothing for %g s; ending it", replica.pid, silent_s)
                _end(replica)
                return


def _end(replica: psutil.Process) -> None:
    try:
        replica.kill()
    except psutil.NoSuchProcess:
        return  # it has ended by itself
