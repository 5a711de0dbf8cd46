"""Owns letting newcomers in: who may wait, who gives way to them, who is refused. Knows nothing of owners or clocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from scheduling.admission import Admission, reserved_for_others
from scheduling.errors import SchedulingError
from scheduling.events import Shed
from scheduling.granting import Granting
from scheduling.lease_desk import LeaseDesk
from scheduling.queued import QueuedTicket
from scheduling.quotas import Quotas
from scheduling.shedding import make_room
from scheduling.waiting_limits import WaitingLimits
from scheduling.waiting_room import WaitingRoom


class FrontDoor:
    """Where a request comes in for the first time. Those who were accepted before do not come this way again."""

    def __init__(
        self, room: WaitingRoom, admission: Admission, granting: Granting, leases: LeaseDesk, quotas: Quotas
    ) -> None:
        self._room = room
        self._admission = admission
        self._granting = granting
        self._leases = leases
        self._quotas = quotas

    def let_in(self, newcomer: QueuedTicket, now_s: float, grant_heads: Callable[[float], None]) -> list[Shed]:
        """Lets it wait; returns who gave way to it.

        grant_heads: gives idle slots to whoever is next; nobody gives way to an idle slot.

        Raises:
            QueueFull, WaitTooLong, DeadlineUnmeetable, QuotaSpent, LargerThanQuota: it is refused.
        """
        claim = newcomer.ticket.claim
        self._quotas.check(claim, now_s)
        try:
            shed = self._place(newcomer, now_s, grant_heads)
        except SchedulingError:
            self._quotas.settle(claim, newcomer.ticket.num_tokens, num_served=0)  # charged with the choices before it
            raise
        self._admission.let_in(newcomer, now_s)
        self._quotas.charge(claim, now_s)
        return shed

    def _place(self, newcomer: QueuedTicket, now_s: float, grant_heads: Callable[[float], None]) -> list[Shed]:
        is_promised = self._admission.claim(newcomer, now_s)
        self._check_wait(newcomer, is_promised, now_s, grant_heads)
        self._room.enter(newcomer)
        if self._lacks_room(newcomer, is_promised):
            grant_heads(now_s)
            if newcomer.lease_id in self._room:
                return self._make_room(newcomer, is_promised, now_s)
        return []

    def _check_wait(
        self, newcomer: QueuedTicket, is_promised: bool, now_s: float, grant_heads: Callable[[float], None]
    ) -> None:
        """Nobody is refused for its wait that has a place: those who came with it are granted theirs first.

        Raises:
            DeadlineUnmeetable, WaitTooLong: it is refused.
        """
        if self._starts_in_time(newcomer, is_promised, now_s):
            return
        grant_heads(now_s)
        if not self._granting.could_serve(newcomer):
            num_ahead = self._num_ahead(newcomer, is_promised, now_s)
            before_return = self._room.queue.tokens_ahead(newcomer, self._admission.num_promised(newcomer))
            self._admission.check_wait(newcomer, num_ahead, before_return, now_s, is_promised=is_promised)

    def _starts_in_time(self, newcomer: QueuedTicket, is_promised: bool, now_s: float) -> bool:
        if self._granting.could_serve(newcomer):
            return True
        num_ahead = self._num_ahead(newcomer, is_promised, now_s)
        return self._admission.is_in_time(newcomer, num_ahead, now_s, is_promised=is_promised)

    def _num_ahead(self, newcomer: QueuedTicket, is_promised: bool, now_s: float) -> float:
        """Expected tokens of those who run before it, or must not be late for it."""
        num_promised = 0.0
        if not is_promised:
            num_promised = self._admission.num_in_the_way(newcomer, self._share_of_rate(newcomer.tenant), now_s)
        return self._room.queue.tokens_ahead(newcomer, num_promised)

    def _share_of_rate(self, tenant: str) -> float:
        """Of what is served, that this tenant's requests get beside those of the others who wait."""
        weights, waiting = self._room.queue.tenant_weights, self._room.queue.num_waiting_by_tenant()
        own = weights.get(tenant, 1.0)
        return own / (own + sum(weights.get(other, 1.0) for other in waiting if other != tenant))

    def _limits_for(self, newcomer: QueuedTicket) -> WaitingLimits:
        """Those in force, less the room that is kept for others."""
        queue, bounds = self._room.queue, self._admission.bounds
        reserved = reserved_for_others(
            newcomer.tenant, bounds.max_waiting, queue.tenant_weights, queue.num_waiting_by_tenant()
        )
        return self._admission.limits_for(newcomer, reserved)

    def _lacks_room(self, newcomer: QueuedTicket, is_promised: bool) -> bool:
        limits = self._limits_for(newcomer)
        return limits.are_exceeded_by(self._room.backlog()) or self._is_spoken_for(newcomer, limits, is_promised)

    def _is_spoken_for(self, newcomer: QueuedTicket, limits: WaitingLimits, is_promised: bool) -> bool:
        """Whether those who were promised a place, and will be back, leave it none.

        Nobody gives way to them before they come; those who would give way to the newcomer do not count.
        """
        if is_promised:
            return False
        queue = self._room.queue
        num_firm = queue.backlog().num_waiting - (queue.num_sheddable if newcomer.stamp.priority >= 0 else 0)
        return num_firm + self._admission.num_returning(newcomer) > limits.max_waiting

    def _make_room(self, newcomer: QueuedTicket, is_promised: bool, now_s: float) -> list[Shed]:
        """Sheds lower keys, or refuses the newcomer.

        Raises:
            QueueFull: it is refused.
        """
        limits = self._limits_for(newcomer)
        if self._is_spoken_for(newcomer, limits, is_promised):
            self._room.take(newcomer.lease_id)
            backlog = self._room.backlog()
            num_waiting = backlog.num_waiting + math.ceil(self._admission.num_returning(newcomer))
            raise self._admission.refusal(newcomer, replace(backlog, num_waiting=num_waiting), limits, now_s)
        shed = make_room(newcomer, self._room, self._admission, limits, now_s)
        for gone in shed:
            self._leases.give_up(gone.lease_id)
        return shed
