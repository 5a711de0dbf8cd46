"""Owns the compiled form of `engine/native`: made once for this machine, then found. Knows nothing of tensors.

It depends on nothing but the compiler's own libraries, so it compiles in seconds. `python -m engine.fused.compiled`
does it ahead of the first use.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

SOURCES = Path(__file__).parent.parent / "native"
COMPILE_WITHIN_S = 300.0
REQUIRED_CPU_FLAGS = {"bfloat16": "avx512_bf16", "float32": "avx512f"}
_FLAGS = ["-O3", "-march=native", "-pthread", "-shared", "-fPIC", "-std=c++20"]


class NoNativeLibrary(Exception):
    """This machine cannot compile or run it; the message says why."""


def check_processor(dtype: str) -> None:
    """Whether this processor has the instructions for `dtype`.

    Raises:
        NoNativeLibrary: it has not, or nobody wrote the arithmetic for that type.
    """
    required = REQUIRED_CPU_FLAGS.get(dtype)
    if required is None:
        raise NoNativeLibrary(f"no native arithmetic for {dtype}; there is for {', '.join(REQUIRED_CPU_FLAGS)}")
    if required not in cpu_flags():
        raise NoNativeLibrary(f"this processor has no {required}")


def compiled_library() -> Path:
    """The library for these sources on this processor; kept beside the environment's other compiled operations.

    Safe when several processes ask at once.

    Raises:
        NoNativeLibrary: there is no compiler, or it failed.
    """
    folder = _folder()
    library = folder / f"fastserve-{_fingerprint()}.so"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "fastserve.lock", timeout=COMPILE_WITHIN_S):
            if not library.exists():
                _compile(library)
    except (OSError, Timeout) as error:
        raise NoNativeLibrary(f"{folder}: {error}") from error
    return library


def _compile(library: Path) -> None:
    partial = library.with_suffix(f".{os.getpid()}")
    command = [os.environ.get("CXX", "g++"), *_FLAGS, "-o", str(partial), str(SOURCES / "program.cpp")]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_WITHIN_S)
    except subprocess.CalledProcessError as error:
        raise NoNativeLibrary(f"the compiler failed: {error.stderr[-500:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoNativeLibrary(f"the compiler: {error}") from error
    partial.replace(library)


def _folder() -> Path:
    if os.access(sys.prefix, os.W_OK):
        return Path(sys.prefix) / "torch_extensions" / "fastserve"
    return Path.home() / ".cache" / "fastserve" / "native"


def _fingerprint() -> str:
    """Changes with the sources, the flags and the processor, so that no library is ever used where it does not run."""
    digest = hashlib.sha256(" ".join([*_FLAGS, platform.machine(), *sorted(cpu_flags())]).encode())
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@cache
def cpu_flags() -> frozenset[str]:
    """What the processor can do, in the system's words; nothing where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def main() -> None:
    """Compiles ahead of the first use, and says in one line what came of it."""
    try:
        check_processor("float32")
        compiled_library()
        print("native program ready", file=sys.stderr)  # noqa: T201 - for the terminal
    except NoNativeLibrary as error:
        print(f"warning: models on CPU will run through their own modules, slower: {error}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
