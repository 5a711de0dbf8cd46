"""Owns the account of a chaos run: how each request ended, and whether it may have. Pure: sends and kills nothing."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


class End(enum.Enum):
    """How one request ended. Each ends in exactly one way."""

    COMPLETE = "complete"  # and what was read is the undisturbed answer
    REFUSED = "refused"  # 429, 408 or 503 before the first token
    LEFT = "left"  # the client went away, because the run wanted it
    BROKEN = "broken"  # its connection broke, or the proxy itself answered with an error
    WRONG = "wrong"  # something else than the undisturbed answer
    FAILED = "failed"  # an error of the service, in place of an answer or at the end of one
    SILENT = "silent"  # nothing for longer than any bound allows


#: What a dead ingress, proxy or host takes with it are its own connections; nothing else may break one.
BREAKS_CONNECTIONS = frozenset({"ingress", "ingress stopped", "proxy", "haproxy", "node", "network"})
AFTERMATH_S = 20.0  # for so long after such an event a connection may turn out to be broken


@dataclass(frozen=True, slots=True)
class Entry:
    """One request: when it was sent and when it ended (monotonic seconds), and how. detail: what was seen."""

    request_id: str
    sent_s: float
    ended_s: float
    end: End
    detail: str = ""
    worst_gap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """One disturbance. over_s: when the service was whole again."""

    number: int
    kind: str
    at_s: float
    over_s: float
    what: str = ""


@dataclass(frozen=True, slots=True)
class Books:
    """The sum of a run. lost: of those, and why. excused: connections that their own ingress, proxy or host broke."""

    ends: Counter[End]
    excused: list[Entry] = field(default_factory=list)
    lost: list[Entry] = field(default_factory=list)
    num_sent: int = 0

    @property
    def balance(self) -> bool:
        """Every request that was sent is accounted for once, and none is lost."""
        return self.num_sent == sum(self.ends.values()) and not self.lost


def balanced(sent: Sequence[str], entries: Iterable[Entry], events: Sequence[Event]) -> Books:
    """The books of all requests that were sent.

    Raises:
        AssertionError: a request has two ends, or one that was never sent.
    """
    by_id: dict[str, Entry] = {}
    for entry in entries:
        assert entry.request_id not in by_id, f"{entry.request_id} ended twice"
        by_id[entry.request_id] = entry
    assert by_id.keys() <= set(sent), "somebody ended who was never sent"
    missing = [Entry(name, 0.0, 0.0, End.SILENT, "no end was seen") for name in sent if name not in by_id]
    excused, lost = [], list(missing)
    for entry in by_id.values():
        if entry.end is End.BROKEN and is_excused(entry, events):
            excused.append(entry)
        elif entry.end in (End.BROKEN, End.WRONG, End.FAILED, End.SILENT):
            lost.append(entry)
    ends = Counter(entry.end for entry in [*by_id.values(), *missing])
    return Books(ends, excused, lost, len(sent))


def is_excused(entry: Entry, events: Sequence[Event]) -> bool:
    """Whether something that breaks connections happened while this one was open, or shortly before."""
    return any(
        event.kind in BREAKS_CONNECTIONS and event.at_s <= entry.ended_s and entry.sent_s <= event.at_s + AFTERMATH_S
        for event in events
    )
