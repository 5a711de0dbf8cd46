from __future__ import annotations

import subprocess
import sys

import pytest

ORPHAN_THAT_IGNORES_SIGTERM = """
import subprocess
from fastserve.process_tree import adopt_orphans, descendants, end_descendants
adopt_orphans()
orphan = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
parent = f'import subprocess, sys; subprocess.Popen([sys.executable, "-c", {orphan!r}])'
import sys
with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as child:
    child.stdout.readline()
print(len(descendants()))
end_descendants()
print(len(descendants()))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux hands orphans to us")
def test_an_orphan_that_ignores_sigterm_is_found_and_ended() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN_THAT_IGNORES_SIGTERM], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.split() == ["1", "0"]


ORPHAN_THAT_ENDS = """
import os, subprocess, sys
import psutil
from fastserve.process_tree import adopt_orphans, reap_orphans
adopt_orphans()
child = subprocess.Popen([sys.executable, "-c", "input(); raise SystemExit(7)"], stdin=subprocess.PIPE)
orphan = "import sys; sys.stdin.read()"
parent = f'import subprocess, sys; print(subprocess.Popen([sys.executable, "-c", {orphan!r}]).pid)'
with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
    orphan = psutil.Process(int(process.stdout.readline()))
os.waitid(os.P_PID, orphan.pid, os.WEXITED | os.WNOWAIT)
reap_orphans(child.pid)
print(orphan.is_running(), child.poll())
child.communicate(b"\\n")
print(child.returncode)
with subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"]) as child:
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    reap_orphans(child.pid)
    print(child.wait())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux hands orphans to us")
def test_an_orphan_that_has_ended_stays_as_a_zombie_no_longer_and_a_child_keeps_its_exit_status() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHAN_THAT_ENDS], capture_output=True, text=True, timeout=60)

    assert (done.stdout.split(), done.stderr) == (["False", "None", "7", "7"], "")
