"""The README's service from Python runs as it stands there; what speaks to a running service is tested with one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.service.readme import python_block


@pytest.mark.service
@pytest.mark.timeout(400)
def test_the_readmes_python_starts_a_service_gets_an_answer_and_stops_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", python_block("ModelServer")], capture_output=True, text=True, timeout=360, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
