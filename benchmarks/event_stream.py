"""Reads a recorded stream of server-sent events. Knows nothing of sockets or of what the events say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arrival:
    """Bytes as they came off the connection, however they were cut, and when."""

    at_s: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """What one `data:` line says, and when its last byte came."""

    at_s: float
    data: bytes


def events(arrivals: Iterable[Arrival]) -> Iterator[Event]:
    """The events in order. One line each, as OpenAI's API sends them; comments and other fields are passed over."""
    rest = b""
    for arrival in arrivals:
        *lines, rest = (rest + arrival.data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield Event(arrival.at_s, line.removeprefix(b"data:").strip())
