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
