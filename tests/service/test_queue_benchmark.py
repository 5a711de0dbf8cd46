"""The queue benchmark over real Ray: every slot that is freed is granted, and timed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.running import ROOT

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]


def test_slots_are_granted_by_a_queue_that_is_an_actor(tmp_path: Path) -> None:
    options = ["--waiting", "40", "--grants", "200", "--slots", "4", "--tenants", "2", "--results", str(tmp_path)]

    subprocess.run([sys.executable, "-m", "benchmarks.queue", *options], cwd=ROOT, check=True, timeout=240)

    (path,) = tmp_path.glob("*-queue.json")
    (level,) = json.loads(path.read_text())["levels"]
    assert level["num_waiting"] == 40
    assert min(level["in_process_per_s"], level["over_ray_per_s"], level["paced_per_s"]) > 0
    assert 0 < level["handover"]["p50_ms"] <= level["handover"]["p99_ms"] <= level["handover"]["most_ms"]
