"""Owns what of a command may be published: an address could name a host."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_ADDRESSES = ("--base-url", "--peer-url")


def published_command(program: str, arguments: Sequence[str]) -> str:
    """The command as it may stand in a results file."""
    hidden = [_without_address(before, given) for before, given in zip(["", *arguments], arguments, strict=False)]
    return f"{program} {shlex.join(hidden)}".rstrip()


def _without_address(before: str, given: str) -> str:
    option, assigned, _ = given.partition("=")
    if before in _ADDRESSES:
        return "URL"
    return f"{option}=URL" if option in _ADDRESSES and assigned else given
