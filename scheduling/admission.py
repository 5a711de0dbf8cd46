"""Owns who may wait: the bounds, how long it would be, and when a refused client should come back. Knows no replica."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from scheduling.arrivals import ArrivalMeter
from scheduling.bookings import Bookings, Identity
from scheduling.errors import DeadlineUnmeetable, QueueFull, QueueTokensFull, WaitTooLong
from scheduling.overtaken_work import LEAST_SHARE, seconds_to_serve
from scheduling.queued import Backlog, QueuedTicket
from scheduling.recent_ids import RecentIds
from scheduling.score import ScorePolicy
from scheduling.service_rate import ServiceRate
from scheduling.waiting_limits import WaitingLimits

URGENT_SHARE = 1 / 8  # of the room, for those above standard priority
PROMISE_SLACK = 2.0
_ROUNDING_S = 1e-6
_RETURNS_REMEMBERED = 4_096
TENANTS_SHARE = 1 / 2  # of the room, kept for the tenants by weight where there are several


@dataclass(frozen=True, slots=True)
class AdmissionBounds:
    """How much may wait. What runs is bounded by the replicas' slots, not here.

    max_waiting: requests; an eighth of them only above priority 0.
    max_waiting_tokens: prompt and longest output of all who wait; None means no bound. One request alone may always
        wait, however large, or it could never be served.
    max_wait_s: the longest predicted wait, as far as it can be predicted. max_wait_s_by_class: of the classes that have
        a bound of their own.
    default_retry_after_s: the answer while nothing has been measured.
    max_retry_after_s: the answer is never later than this.

    Raises:
        ValueError: a bound is below 1, or a time is not a positive number (those of the answer must be finite too).
    """

    max_waiting: int = 1024
    max_waiting_tokens: int | None = None
    max_wait_s: float = math.inf
    max_wait_s_by_class: Mapping[str, float] = field(default_factory=dict)
    default_retry_after_s: float = 5.0
    max_retry_after_s: float = 3600.0

    def __post_init__(self) -> None:
        for name in ("max_waiting", "max_waiting_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value!r}")
        for name in ("default_retry_after_s", "max_retry_after_s"):
            value = getattr(self, name)
            if not math.isfinite(value) or value <= 0:
                raise ValueError(f"{name}: expected a finite number of seconds above 0, got {value!r}")
        for name, wait_s in (("max_wait_s", self.max_wait_s), *self.max_wait_s_by_class.items()):
            if not wait_s > 0:
                raise ValueError(f"{name}: expected a number of seconds above 0, got {wait_s!r}")

    def max_wait_of(self, service_class: str) -> float:
        """Seconds; infinite for no bound."""
        return self.max_wait_s_by_class.get(service_class, self.max_wait_s)


class Admission:
    """Predicts waits, applies the bounds and answers those who are refused. policy: tells the one in force."""

    def __init__(self, bounds: AdmissionBounds, policy: Callable[[], ScorePolicy]) -> None:
        self.set_bounds(bounds)
        self._policy = policy
        self.rate = ServiceRate()
        self._arrivals = ArrivalMeter()
        self._bookings = Bookings()
        self._returned = RecentIds(_RETURNS_REMEMBERED)  # requests of which a choice was promised a place by now

    @property
    def bounds(self) -> AdmissionBounds:
        return self._bounds

    def set_bounds(self, bounds: AdmissionBounds) -> None:
        self._bounds = bounds
        self._limits = WaitingLimits(bounds.max_waiting, bounds.max_waiting_tokens)

    def claim(self, newcomer: QueuedTicket, now_s: float) -> bool:
        """Whether the newcomer was refused before, told to come back, and has.

        Each choice of a request is told a time of its own, and the client of one: who comes then, comes with all.
        """
        identity = _identity(newcomer)
        request = f"{newcomer.tenant}/{newcomer.ticket.request_id}"
        is_claimed = self._bookings.claim(identity, now_s, is_with_another=request in self._returned)
        if is_claimed:
            self._returned.add(request)
        return is_claimed

    def let_in(self, newcomer: QueuedTicket, now_s: float) -> None:
        """It waits or runs now."""
        self._arrivals.observe(newcomer.stamp.priority, newcomer.ticket.need.expected, now_s)

    def wait_s(self, newcomer: QueuedTicket, num_tokens_ahead: float, now_s: float) -> float | None:
        """Seconds until it would start behind so many expected tokens, and behind those of higher priorities, as they
        arrive lately, for as long as these go first; None while nothing has been measured."""
        return self._served_in_s(newcomer, num_tokens_ahead + newcomer.ticket.need.expected, now_s)

    def num_returning(self, newcomer: QueuedTicket) -> float:
        """How many of its tenant, of no lower priority, will be back and were promised a place before it."""
        return self._bookings.num_from(newcomer.tenant, newcomer.stamp.priority)

    def num_promised(self, newcomer: QueuedTicket) -> float:
        """Expected tokens of its tenant that were refused, will be back and were promised a place before it."""
        return self._bookings.num_tokens_from(newcomer.tenant, newcomer.stamp.priority)

    def num_in_the_way(self, newcomer: QueuedTicket, share_of_rate: float, now_s: float) -> float:
        """Of those, as many as it must wait for, that nobody who comes back in time is late.

        share_of_rate: of what is served, that its tenant's requests get.
        """
        stamp, rate = newcomer.stamp, self.rate.expected_tokens_per_s or 0.0
        above_per_s = sum(per_s for _, per_s in self._overtaking(stamp.priority, now_s))
        left_per_s = share_of_rate * max(rate - above_per_s, LEAST_SHARE * rate)
        return self._bookings.num_tokens_in_the_way(newcomer.tenant, stamp.priority, left_per_s, now_s)

    def is_in_time(
        self, newcomer: QueuedTicket, num_tokens_ahead: float, now_s: float, *, is_promised: bool = False
    ) -> bool:
        """Whether it would start by its deadline, and within what its class may wait.

        num_tokens_ahead: of those who wait; for one that was promised nothing, also of those who were.

        A promise is broken only where the wait has become twice as long as it may be.
        """
        wait_s = self.wait_s(newcomer, num_tokens_ahead, now_s)
        slack = PROMISE_SLACK if is_promised else 1.0
        most_s = min(slack * self._max_wait_s(newcomer), _deadline_s(newcomer))
        return wait_s is None or wait_s <= most_s

    def check_wait(
        self,
        newcomer: QueuedTicket,
        num_tokens_ahead: float,
        num_tokens_before_return: float,
        now_s: float,
        *,
        is_promised: bool = False,
    ) -> None:
        """Refuses one that is not in time, and books its return.

        num_tokens_before_return: what lies ahead of one that comes back after all who were promised a place.

        Raises:
            DeadlineUnmeetable, WaitTooLong: it would start too late.
        """
        if self.is_in_time(newcomer, num_tokens_ahead, now_s, is_promised=is_promised):
            return
        wait_s = self.wait_s(newcomer, num_tokens_ahead, now_s)
        after_all_s = self.wait_s(newcomer, max(num_tokens_before_return, num_tokens_ahead), now_s)
        assert wait_s is not None and after_all_s is not None, "nothing is late before anything was measured"
        deadline_s, max_wait_s = _deadline_s(newcomer), self._max_wait_s(newcomer)
        if wait_s > deadline_s:
            raise DeadlineUnmeetable(deadline_s, wait_s, self._book_return(newcomer, after_all_s - deadline_s, now_s))
        raise WaitTooLong(wait_s, max_wait_s, self._book_return(newcomer, after_all_s - max_wait_s, now_s))

    def limits_for(self, newcomer: QueuedTicket, reserved_for_others: float) -> WaitingLimits:
        """What counts for it: some of the room is kept for others.

        reserved_for_others: by tenants' shares, in requests.
        """
        kept = reserved_for_others
        if newcomer.stamp.priority <= 0:
            kept += self.bounds.max_waiting * URGENT_SHARE
        return self._limits.less(math.floor(kept))

    def refusal(self, refused: QueuedTicket, backlog: Backlog, limits: WaitingLimits, now_s: float) -> QueueFull:
        """The error for one that finds `backlog` in its way, or must give way. Books its return: make one for each."""
        num_tokens = self.num_promised(refused) + refused.ticket.need.expected
        retry_after_s = self._book_return(refused, self._served_in_s(refused, num_tokens, now_s) or 0.0, now_s)
        most_tokens = limits.max_waiting_tokens
        if backlog.num_waiting < limits.max_waiting and most_tokens is not None:
            return QueueTokensFull(backlog.num_tokens, most_tokens, retry_after_s)
        return QueueFull(backlog.num_waiting, limits.max_waiting, retry_after_s)

    def _max_wait_s(self, newcomer: QueuedTicket) -> float:
        return self.bounds.max_wait_of(newcomer.ticket.service_class)

    def _served_in_s(self, newcomer: QueuedTicket, num_tokens: float, now_s: float) -> float | None:
        rate = self.rate.expected_tokens_per_s
        if rate is None:
            return None
        return seconds_to_serve(num_tokens, rate, self._overtaking(newcomer.stamp.priority, now_s))

    def _overtaking(self, priority: float, now_s: float) -> list[tuple[float, float]]:
        """Of those above as they arrive lately: for how long they go first, and their tokens a second."""
        policy, above = self._policy(), self._arrivals.above(priority, now_s)
        until_s = [(policy.overtakes_for_s(levels), per_s) for levels, per_s in above]
        return [each for each in until_s if each[0] > 0]

    def _book_return(self, refused: QueuedTicket, wait_s: float, now_s: float) -> float:
        """Whole seconds, as clients are told, and a place at the end of them."""
        if self.rate.expected_tokens_per_s is None:
            return min(self.bounds.default_retry_after_s, self.bounds.max_retry_after_s)
        told_s = min(float(max(1, math.ceil(wait_s - _ROUNDING_S))), self.bounds.max_retry_after_s)
        self._bookings.make(_identity(refused), told_s, refused.ticket.need.expected, now_s)
        return told_s


def reserved_for_others(
    tenant: str, max_waiting: int, weights: Mapping[str, float], num_waiting: Mapping[str, int]
) -> float:
    """Places that no other tenant may take: half of the room is shared out by weight, and what of it is free is kept.

    weights: of the tenants by configuration. Nothing is kept where there is one, or none.
    """
    if len(weights) < 2:
        return 0.0
    total = sum(weights.values())
    shares = {other: TENANTS_SHARE * max_waiting * weight / total for other, weight in weights.items()}
    return sum(max(0.0, share - num_waiting.get(other, 0)) for other, share in shares.items() if other != tenant)


def _deadline_s(queued: QueuedTicket) -> float:
    """Infinite for none."""
    return math.inf if queued.ticket.deadline_s is None else queued.ticket.deadline_s


def _identity(queued: QueuedTicket) -> Identity:
    ticket = queued.ticket
    return Identity(ticket.tenant, queued.stamp.priority, ticket.content, ticket.max_output_tokens)
