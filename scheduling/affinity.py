"""Owns which replica has which prompts' beginnings in its cache, as far as grants tell. Knows no order and no room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

#: Tokens of prompt between two hashes of a ticket, and how many of these a ticket carries at most.
PREFIX_TOKENS = 64
MAX_PREFIXES = 16


class PrefixAffinity:
    """Prefixes by replica, each replica's last ones: about as many as its cache holds.

    It decides where a request runs, never which: the order is not touched, so that its margin in the bound on
    overtaking is nothing. What it believes may be wrong, and then costs a prefill.
    """

    def __init__(self) -> None:
        self._of_replica: dict[str, OrderedDict[str, None]] = {}
        self._holders: dict[str, dict[str, None]] = {}

    def remember(self, replica_id: str, prefixes: Sequence[str], max_tokens: int) -> None:
        """A prompt that begins so runs there now. max_tokens: what the replica's cache holds."""
        known = self._of_replica.setdefault(replica_id, OrderedDict())
        for prefix in prefixes:
            known[prefix] = None
            known.move_to_end(prefix)
            self._holders.setdefault(prefix, {})[replica_id] = None
        while len(known) > max(1, max_tokens // PREFIX_TOKENS):
            self._forget_one(replica_id, known.popitem(last=False)[0])

    def forget(self, replica_id: str) -> None:
        """The replica is gone, or began anew."""
        for prefix in self._of_replica.pop(replica_id, ()):
            self._forget_one(replica_id, prefix)

    def holders(self, prefixes: Sequence[str]) -> list[list[str]]:
        """The replicas that have some of it, those with the most first; one list for each number of tokens."""
        found: list[list[str]] = []
        seen: set[str] = set()
        for prefix in reversed(prefixes):
            new = [replica_id for replica_id in self._holders.get(prefix, ()) if replica_id not in seen]
            if new:
                seen.update(new)
                found.append(new)
        return found

    def _forget_one(self, replica_id: str, prefix: str) -> None:
        holders = self._holders[prefix]
        holders.pop(replica_id, None)
        if not holders:
            del self._holders[prefix]
