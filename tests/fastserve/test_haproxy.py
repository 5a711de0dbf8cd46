from __future__ import annotations

import subprocess
from pathlib import Path

from fastserve.haproxy import find_haproxy, write_spliceless


def test_the_script_adds_the_flag_and_passes_every_argument_on(tmp_path: Path) -> None:
    binary = tmp_path / "a binary"
    binary.write_text('#!/bin/sh\nfor argument in "$@"; do echo "$argument"; done\n')
    binary.chmod(0o700)

    script = write_spliceless(binary, tmp_path)

    said = subprocess.run([script, "-f", "one file.cfg"], check=True, capture_output=True, text=True, timeout=30).stdout
    assert said.splitlines() == ["-dS", "-f", "one file.cfg"]


def test_the_haproxy_that_ray_brings_knows_the_flag() -> None:
    binary = find_haproxy()
    assert binary is not None

    said = subprocess.run([binary, "-h"], check=False, capture_output=True, text=True, timeout=30)

    assert "-dS disables splice usage" in said.stdout + said.stderr
