"""What is said of a machine, from what its system says."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

from fastserve.machine import commit, gpu_model, instruction_sets, memory_gib, this_machine
from tests.benchmarks.factories import MACHINE

CPUINFO = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu sse avx2 avx512f avx512_bf16 amx_tile\n"
MEMINFO = "MemTotal:       33554432 kB\nMemFree:         1024 kB\n"


def test_instruction_sets_are_those_that_tell_how_fast_matrices_multiply() -> None:
    assert instruction_sets(CPUINFO) == ["avx2", "avx512f", "avx512_bf16"]
    assert instruction_sets("Features\t: fp asimd bf16 sve\n") == ["asimd", "bf16", "sve"]
    assert instruction_sets("") == []


def test_memory_is_the_machines_or_its_containers_if_that_is_less() -> None:
    assert memory_gib(MEMINFO, "max\n") == 32.0
    assert memory_gib(MEMINFO, "") == 32.0
    assert memory_gib(MEMINFO, f"{24 * 2**30}\n") == 24.0


def test_a_gpu_is_known_by_its_model() -> None:
    assert gpu_model("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 1\n") == "NVIDIA H100 80GB HBM3"
    assert gpu_model("") == "a GPU of unknown model"


def test_a_machine_is_read_from_its_system(tmp_path: Path) -> None:
    gpu = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: \t NVIDIA L4\n")
    (tmp_path / "proc/cpuinfo").write_text(CPUINFO)
    (tmp_path / "proc/meminfo").write_text(MEMINFO)

    machine = this_machine(tmp_path)

    assert machine.cores > 0
    assert (machine.memory_gib, machine.gpus) == (32.0, ["NVIDIA L4"])
    assert machine.instruction_sets == ["avx2", "avx512f", "avx512_bf16"]


def test_no_host_is_named() -> None:
    described = this_machine()

    assert platform.node() not in described.hardware().split()
    assert platform.node() not in described.software().split()


def test_hardware_and_software_read_as_one_line_each() -> None:
    assert MACHINE.hardware() == "2 cores of x86_64 (avx512f, avx512_bf16), 24 GiB of memory, no GPU"
    assert MACHINE.software() == "Python 3.11.9, torch 2.13.0"


def test_a_commit_with_changes_on_top_says_so(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=tester", "-c", "user.email=tester@localhost"]
    (tmp_path / "file").write_text("one")
    for arguments in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "Begin"]):
        subprocess.run([*git, *arguments], check=True, timeout=30)
    clean = commit(tmp_path)

    (tmp_path / "file").write_text("two")

    assert len(clean) >= 12
    assert commit(tmp_path) == f"{clean}-dirty"


def test_outside_a_checkout_the_commit_is_unknown(tmp_path: Path) -> None:
    assert commit(tmp_path) == "unknown"
