"""Owns a second host: a network namespace of its own on this machine, with one cable to it that can be pulled out.

Needs root and iproute2. Knows nothing of what runs there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Hosts:
    """Two hosts. prefix: of a command that is to run on the second."""

    first_address: str
    second_address: str
    prefix: tuple[str, ...] = ()
    cable: str | None = None

    def cut(self) -> None:
        """Nothing gets from one to the other, and nobody is told."""
        assert self.cable is not None, "one host has no cable to cut"
        _ip("link", "set", self.cable, "down")

    def mend(self) -> None:
        assert self.cable is not None, "one host has no cable to mend"
        _ip("link", "set", self.cable, "up")


@contextlib.contextmanager
def hosts() -> Iterator[Hosts]:
    """Two hosts where namespaces can be made; else both are this one, and there is no cable."""
    name = f"fs{os.getpid()}"
    if not _can_make(name):
        yield Hosts(LOOPBACK, LOOPBACK)
        return
    subnet = f"10.231.{os.getpid() % 250}"
    inside = ("netns", "exec", name, "ip")
    try:
        _ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        _ip("addr", "add", f"{subnet}.1/24", "dev", f"{name}a")
        _ip("link", "set", f"{name}a", "up")
        for command in (
            ("link", "set", "lo", "up"),
            ("addr", "add", f"{subnet}.2/24", "dev", f"{name}b"),
            ("link", "set", f"{name}b", "up"),
        ):
            _ip(*inside, *command)
        yield Hosts(f"{subnet}.1", f"{subnet}.2", ("ip", "netns", "exec", name), f"{name}a")
    finally:
        _ip("netns", "delete", name)  # and its end of the cable, and with that the other


def _can_make(name: str) -> bool:
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    return subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)
