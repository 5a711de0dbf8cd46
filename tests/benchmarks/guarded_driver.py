"""A process that runs a guarded command and never ends it: `python -m tests.benchmarks.guarded_driver [stopped]`.

The command starts two processes of its own, one of them in a session of its own and deaf to SIGTERM. All write to the
driver's standard output, each line at once, so that it is at its end when the last of them has gone.
"""

from __future__ import annotations

import os
import signal
import sys

from benchmarks.guarded import Guarded

FAMILY = """
import os, signal
for own_session in (False, True):
    if os.fork() == 0:
        if own_session:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(1, b"here\\n")
        signal.pause()
os.write(1, b"here\\n")
signal.pause()
"""
NUM_MEMBERS = 3


def main() -> None:
    guarded = Guarded([sys.executable, "-c", FAMILY], stdout=None, stderr=None, grace_s=10.0)
    if "stopped" in sys.argv:
        guarded.send_signal(signal.SIGSTOP)
    os.write(1, b"started\n")
    signal.pause()


if __name__ == "__main__":
    main()
