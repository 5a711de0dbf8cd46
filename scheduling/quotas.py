"""Owns how much each account may ask for in a minute. Knows nothing of API keys, of order or of clocks.

An account's charges are counted in slots of a second, and count until no minute that has them in it can still be going
on: whatever minute one looks at, no more was let in than the limit. A bucket that is refilled steadily was rejected: it
lets in twice the limit within a minute, and has no answer to what a charge that is given back was worth.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from scheduling.errors import LargerThanQuota, QuotaSpent

NUM_SLOTS = 61  # a second each: as many as any minute can touch
MAX_CHARGES = 65_536


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """What one account may ask for in any minute. None: no bound. Tokens: prompt and the most that may be generated."""

    max_requests_per_min: int | None = None
    max_tokens_per_min: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_requests_per_min", "max_tokens_per_min"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value!r}")


@dataclass(frozen=True, slots=True)
class QuotaClaim:
    """Whom a ticket is charged to, and for what; the same on all tickets of one request.

    charge_id: of the request, and of no other: it is charged when the first of its tickets is let in, and the others
        are let in with it. choice: which of the request's choices the ticket is for.
    num_tokens: prompt and longest output of all its choices together.
    """

    account: str
    charge_id: str
    num_tokens: int
    choice: int = 0


@dataclass(slots=True)
class _Slot:
    number: int
    num_requests: int = 0
    num_tokens: int = 0


@dataclass(slots=True)
class _Minute:
    """What counts against one account, the oldest second first."""

    slots: deque[_Slot] = field(default_factory=deque)
    num_requests: int = 0
    num_tokens: int = 0

    def pass_time(self, now: int) -> None:
        while self.slots and self.slots[0].number <= now - NUM_SLOTS:
            gone = self.slots.popleft()
            self.num_requests -= gone.num_requests
            self.num_tokens -= gone.num_tokens

    def add(self, now: int, num_requests: int, num_tokens: int) -> _Slot:
        if not self.slots or self.slots[-1].number != now:
            self.slots.append(_Slot(now))
        slot = self.slots[-1]
        slot.num_requests += num_requests
        self.num_requests += num_requests
        self.add_tokens(slot, num_tokens)
        return slot

    def add_tokens(self, slot: _Slot, num_tokens: int) -> None:
        slot.num_tokens += num_tokens
        self.num_tokens += num_tokens

    def room_at_s(self, limits: QuotaLimits, num_tokens: int) -> float | None:
        """When one request of so many tokens has room; None for now."""
        requests = math.inf if limits.max_requests_per_min is None else limits.max_requests_per_min - 1
        tokens = math.inf if limits.max_tokens_per_min is None else limits.max_tokens_per_min - num_tokens
        more_requests, more_tokens = self.num_requests - requests, self.num_tokens - tokens
        if more_requests <= 0 and more_tokens <= 0:
            return None
        for slot in self.slots:
            more_requests -= slot.num_requests
            more_tokens -= slot.num_tokens
            if more_requests <= 0 and more_tokens <= 0:
                return float(slot.number + NUM_SLOTS)
        raise AssertionError("a request that fits into an empty minute")


@dataclass(slots=True)
class _Charge:
    """One request that was let in. served, returned: tokens, by choice."""

    account: str
    slot: _Slot
    served: dict[int, int] = field(default_factory=dict)
    returned: dict[int, int] = field(default_factory=dict)


class Quotas:
    """The accounts that have limits, each with what it was charged in the last minute.

    Every call costs O(1) amortised. An account whose charges are all older than a minute is forgotten, and so is each
    charge; nothing is given back of one that is forgotten. `now_s` never goes back.
    """

    def __init__(self, max_charges: int = MAX_CHARGES) -> None:
        self._max_charges = max_charges
        self._limits: Mapping[str, QuotaLimits] = {}
        self._minutes: OrderedDict[str, _Minute] = OrderedDict()  # those that were charged last stand last
        self._charges: OrderedDict[str, _Charge] = OrderedDict()

    @property
    def num_accounts(self) -> int:
        """How many have been charged lately."""
        return len(self._minutes)

    @property
    def num_charges(self) -> int:
        return len(self._charges)

    def set_limits(self, limits: Mapping[str, QuotaLimits]) -> None:
        """By account, of all that have any; they count from now on, and what was charged stays charged."""
        self._limits = limits

    def check(self, claim: QuotaClaim | None, now_s: float) -> None:
        """Whether the request may come in.

        Raises:
            QuotaSpent: not now.
            LargerThanQuota: never, under these limits.
        """
        if claim is None or claim.charge_id in self._charges:
            return
        limits = self._limits.get(claim.account)
        if limits is None:
            return
        self._forget(math.floor(now_s))
        most = limits.max_tokens_per_min
        if most is not None and claim.num_tokens > most:
            raise LargerThanQuota(claim.num_tokens, most)
        if (minute := self._minutes.get(claim.account)) is None:
            return
        minute.pass_time(math.floor(now_s))
        if (room_at_s := minute.room_at_s(limits, claim.num_tokens)) is not None:
            raise QuotaSpent(limits.max_requests_per_min, most, room_at_s - now_s)

    def charge(self, claim: QuotaClaim | None, now_s: float) -> None:
        """The request is let in; its other tickets change nothing."""
        if claim is None or claim.charge_id in self._charges or claim.account not in self._limits:
            return
        now = math.floor(now_s)
        self._forget(now)
        minute = self._minutes.setdefault(claim.account, _Minute())
        self._minutes.move_to_end(claim.account)
        self._charges[claim.charge_id] = _Charge(claim.account, minute.add(now, 1, claim.num_tokens))
        if len(self._charges) > self._max_charges:
            self._charges.popitem(last=False)

    def settle(self, claim: QuotaClaim | None, num_tokens: int, num_served: int) -> None:
        """An attempt of `num_tokens` has ended and was served so many: what it left over is given back.

        It is given back to the second in which it was charged. An attempt that goes on elsewhere adds to what its
        choice was served.
        """
        if claim is None or (charge := self._charges.get(claim.charge_id)) is None:
            return
        charge.served[claim.choice] = charge.served.get(claim.choice, 0) + num_served
        left = max(0, num_tokens - charge.served[claim.choice])
        self._give_back(charge, left - charge.returned.get(claim.choice, 0))
        charge.returned[claim.choice] = left

    def come_again(self, claim: QuotaClaim | None) -> None:
        """A choice that was let in before goes on: what was given back is charged again, and it is not refused."""
        if claim is not None and (charge := self._charges.get(claim.charge_id)) is not None:
            self._give_back(charge, -charge.returned.pop(claim.choice, 0))

    def _give_back(self, charge: _Charge, num_tokens: int) -> None:
        if (minute := self._minutes.get(charge.account)) is not None:
            minute.add_tokens(charge.slot, -num_tokens)

    def _forget(self, now: int) -> None:
        """What was charged too long ago to count. The oldest stand first."""
        while self._charges and next(iter(self._charges.values())).slot.number <= now - NUM_SLOTS:
            self._charges.popitem(last=False)
        while self._minutes:
            account, minute = next(iter(self._minutes.items()))
            minute.pass_time(now)
            if minute.slots:
                break
            del self._minutes[account]
