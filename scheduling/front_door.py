"""Owns letting newcomers in: who may wait, who gives way to them, who is refused. Knows nothing of owners or clocks."""

from __future__ import annotations

from collections.abc import Callable

from scheduling.admission import Admission, AdmissionBounds, reserved_for_others
from scheduling.events import Shed
from scheduling.granting import Granting
from scheduling.lease_desk import LeaseDesk
from scheduling.queued import QueuedTicket
from scheduling.shedding import make_room
from scheduling.waiting_room import WaitingRoom


class FrontDoor:
    """Where a request comes in for the first time. Those who were accepted before do not come this way again."""

    def __init__(self, room: WaitingRoom, admission: Admission, granting: Granting, leases: LeaseDesk) -> None:
        self._room = room
        self._admission = admission
        self._granting = granting
        self._leases = leases

    def let_in(self, newcomer: QueuedTicket, now_s: float, grant_heads: Callable[[float], None]) -> list[Shed]:
        """Lets it wait; returns who gave way to it.

        grant_heads: gives idle slots to whoever is next; nobody gives way to an idle slot.

        Raises:
            QueueFull, WaitTooLong, DeadlineUnmeetable: it is refused.
        """
        is_promised = self._admission.claim(newcomer, now_s)
        if not self._granting.could_serve(newcomer):
            num_promised = 0.0 if is_promised else self._admission.num_promised(newcomer)
            num_ahead = self._room.queue.tokens_ahead(newcomer, num_promised)
            self._admission.check_wait(newcomer, num_ahead, now_s, is_promised=is_promised)
        self._room.enter(newcomer)
        shed = []
        if self._bounds_for(newcomer, is_promised).are_exceeded_by(self._room.backlog()):
            grant_heads(now_s)
            shed = self._make_room(newcomer, self._bounds_for(newcomer, is_promised), now_s)
        self._admission.let_in(newcomer, now_s)
        return shed

    def _bounds_for(self, newcomer: QueuedTicket, is_promised: bool) -> AdmissionBounds:
        """Those in force, less the room that is kept for others."""
        queue, bounds = self._room.queue, self._admission.bounds
        reserved = reserved_for_others(
            newcomer.tenant, bounds.max_waiting, queue.tenant_weights, queue.num_waiting_by_tenant()
        )
        return self._admission.bounds_for(newcomer, reserved_for_others=reserved, is_promised=is_promised)

    def _make_room(self, newcomer: QueuedTicket, bounds: AdmissionBounds, now_s: float) -> list[Shed]:
        """Sheds lower keys, or refuses the newcomer; nothing to do when it has been granted meanwhile."""
        if newcomer.lease_id not in self._room:
            return []
        shed = make_room(newcomer, self._room, self._admission, bounds, now_s)
        for gone in shed:
            self._leases.give_up(gone.lease_id)
        return shed
