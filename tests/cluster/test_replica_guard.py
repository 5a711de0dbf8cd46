"""A replica that is stopped is ended by its ranks; one that asks is left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cluster.replica_guard import ReplicaGuard

ENDS_WITHIN_S = 20


@pytest.fixture
def replica() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_a_replica_that_is_stopped_is_ended(replica: subprocess.Popen[bytes]) -> None:
    replica.send_signal(signal.SIGSTOP)
    ReplicaGuard(beat_s=0.01).heard(replica.pid)
    assert replica.wait(ENDS_WITHIN_S) == -signal.SIGKILL


def test_a_replica_that_goes_on_asking_is_left_alone(replica: subprocess.Popen[bytes]) -> None:
    guard = ReplicaGuard(beat_s=0.02, max_silent_beats=50)
    for _ in range(100):
        guard.heard(replica.pid)
        with pytest.raises(subprocess.TimeoutExpired):
            replica.wait(0.02)


def test_a_replica_that_has_ended_by_itself_needs_no_end(replica: subprocess.Popen[bytes]) -> None:
    guard = ReplicaGuard(beat_s=0.01)
    guard.heard(replica.pid)
    replica.kill()
    replica.wait(ENDS_WITHIN_S)
    assert guard.watching is not None
    guard.watching.join(ENDS_WITHIN_S)
    assert not guard.watching.is_alive()
