"""Says in general terms what a measurement ran on: cores, memory, GPUs, versions, commit. Never names a host."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_GIT_TIMEOUT_S = 10
_PACKAGES = ("ray", "torch", "transformers", "deepspeed")
#: As the kernel writes them, on x86 and on ARM: what decides how fast matrices multiply.
_TELLING_FLAGS = (
    *("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8"),
    *("asimd", "bf16", "i8mm", "sve", "sve2"),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """cores: those that this process may use. memory_gib: of the machine, or of its container if that is less."""

    cores: int
    architecture: str
    instruction_sets: list[str]
    memory_gib: float
    gpus: list[str]
    python: str
    packages: dict[str, str]

    def hardware(self) -> str:
        sets = f" ({', '.join(self.instruction_sets)})" if self.instruction_sets else ""
        gpus = ", ".join(self.gpus) or "no GPU"
        return f"{self.cores} cores of {self.architecture}{sets}, {self.memory_gib:g} GiB of memory, {gpus}"

    def software(self) -> str:
        return ", ".join([f"Python {self.python}", *(f"{name} {number}" for name, number in self.packages.items())])


def provenance(command: str, commit: str, machine: Machine) -> list[str]:
    """The lines that end a results file: what made it, and on what."""
    return [
        f"- command: `{command}`",
        f"- commit: `{commit}`",
        f"- hardware: {machine.hardware()}",
        f"- software: {machine.software()}",
    ]


def this_machine(root: Path = Path("/")) -> Machine:
    """root: where `proc` and `sys` are."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        architecture=platform.machine(),
        instruction_sets=instruction_sets(_text(root / "proc/cpuinfo")),
        memory_gib=memory_gib(_text(root / "proc/meminfo"), _text(root / "sys/fs/cgroup/memory.max")),
        gpus=[gpu_model(_text(path)) for path in sorted(root.glob("proc/driver/nvidia/gpus/*/information"))],
        python=platform.python_version(),
        packages={name: version(name) for name in _PACKAGES},
    )


def instruction_sets(cpuinfo: str) -> list[str]:
    """Those of `_TELLING_FLAGS` that the first processor has."""
    for line in cpuinfo.splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return [flag for flag in _TELLING_FLAGS if flag in flags.split()]
    return []


def memory_gib(meminfo: str, container_limit: str) -> float:
    """container_limit: what cgroup 2 says: bytes, `max`, or nothing where there is no such group."""
    kib = next((int(line.split()[1]) for line in meminfo.splitlines() if line.startswith("MemTotal:")), 0)
    limit = container_limit.strip()
    num_bytes = min(kib * 1024, int(limit)) if limit.isdigit() else kib * 1024
    return round(num_bytes / 2**30, 1)


def gpu_model(information: str) -> str:
    """The model in what the NVIDIA driver says of one device."""
    lines = (line.partition(":") for line in information.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "Model"), "a GPU of unknown model")


def commit(folder: Path = _ROOT) -> str:
    """The commit that is checked out, with `-dirty` where tracked files differ from it."""
    try:
        name = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{name}-dirty" if changed else name


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=_GIT_TIMEOUT_S
    )
    return done.stdout.strip()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
