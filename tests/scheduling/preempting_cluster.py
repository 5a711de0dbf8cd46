"""A cluster in which engines make room, as a model: ingresses, the clock, and engines that park their lowest keys."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.events import Moved, Resumed
from scheduling.request import TokenNeed
from scheduling.score import ScorePolicy, Stamp
from tests.factories import make_replica, make_ticket

REPLICAS = ("replica-1", "replica-2")
OWNERS = ("ingress-1", "ingress-2")
TENANTS = ("heavy", "light")
WEIGHTS = {"heavy": 3.0, "light": 1.0}
MAX_NUM_SEQS = 2
PARKED_LIMIT = 2
KV_TOKENS = 100
MARGIN_LEVELS = 2.0
CLAIM_TIMEOUT_S = 1.0
SENT_TIMEOUT_S = 10.0


class Place(enum.Enum):
    """As the queue should see it. MOVING: its replica is to give it up."""

    WAITING = "waiting"
    GRANTED = "granted"
    SENT = "sent"
    RUNNING = "running"
    PARKED = "parked"
    MOVING = "moving"
    GONE = "gone"


RUNS = (Place.GRANTED, Place.SENT, Place.RUNNING)
HELD = (*RUNS, Place.PARKED, Place.MOVING)


@dataclass
class Modelled:
    """What the model knows of one lease id. is_in_batch: its engine runs it, which may be later than the queue says."""

    owner: str
    tenant: str
    stamp: Stamp
    num_tokens: int
    place: Place = Place.WAITING
    replica_id: str = ""
    due_s: float = 0.0
    is_in_batch: bool = False


class PreemptingCluster:
    """What the model believes, and what the ingresses and the engines do. Checks nothing but what it asks."""

    dispatcher: Dispatcher

    def begin(self, policy: ScorePolicy) -> None:
        self.bounds = AdmissionBounds(max_waiting=1000)
        self.dispatcher = Dispatcher(
            policy, self.bounds, claim_timeout_s=CLAIM_TIMEOUT_S, sent_timeout_s=SENT_TIMEOUT_S
        )
        self.dispatcher.reconfigure(policy, self.bounds, WEIGHTS)
        self.leases: dict[str, Modelled] = {}
        self.incarnations = dict.fromkeys(REPLICAS, 1)
        self.open_replicas: set[str] = set()
        self.unheard: list[Resumed | Moved] = []
        self.now_s = 1.7e9
        for replica_id in REPLICAS:
            self.register(replica_id)

    def register(self, replica_id: str) -> None:
        """It says anew what it runs."""
        claimed = self.on(replica_id, Place.RUNNING, Place.PARKED, Place.MOVING)
        parked = self.on(replica_id, Place.PARKED, Place.MOVING)
        state = make_replica(
            replica_id,
            max_num_seqs=MAX_NUM_SEQS,
            kv_tokens=KV_TOKENS,
            incarnation=self.incarnations[replica_id],
            parked_limit=PARKED_LIMIT,
            preemption_margin_levels=MARGIN_LEVELS,
        )
        self.dispatcher.register_replica(state, claimed, parked)
        self.open_replicas.add(replica_id)

    def reach(self, lease_id: str) -> None:
        """Its engine runs it from now on, and parks another where it must."""
        lease = self.leases[lease_id]
        self.dispatcher.claim(lease_id, lease.replica_id)
        lease.place, lease.is_in_batch = Place.RUNNING, True
        self.make_room(lease.replica_id)

    def ask(self, asked: Modelled, *, is_again: bool) -> None:
        lease_id = f"lease-{len(self.leases):03}"
        ticket = make_ticket(
            lease_id,
            priority=asked.stamp.priority,
            num_prompt_tokens=asked.num_tokens,
            max_output_tokens=0,
            tenant=asked.tenant,
            stamp=asked.stamp if is_again else None,
        )
        assert ticket.need == TokenNeed(asked.num_tokens, asked.num_tokens)
        stamp = self.dispatcher.enqueue(ticket, asked.owner, self.now_s)
        self.leases[lease_id] = Modelled(asked.owner, asked.tenant, stamp, asked.num_tokens)

    def ask_again(self, lost: list[str]) -> None:
        """Their owners ask for another attempt, which keeps the stamp."""
        for lease_id in lost:
            self.ask(self.leases[lease_id], is_again=True)

    def make_room(self, replica_id: str) -> None:
        """The engine keeps as many as it has slots and blocks for, and says who gave way."""
        in_batch = [lease_id for lease_id in self.on(replica_id, *RUNS) if self.leases[lease_id].is_in_batch]
        staying = sorted(in_batch, key=self.key)
        while len(staying) > MAX_NUM_SEQS or self.num_tokens(staying) > KV_TOKENS:
            self.give_way(staying.pop(0), replica_id)

    def give_way(self, lease_id: str, replica_id: str) -> None:
        self.dispatcher.park(lease_id, replica_id)
        self.leases[lease_id].place, self.leases[lease_id].is_in_batch = Place.PARKED, False

    def finish(self, lease_id: str, num_served: int | None = None) -> None:
        self.dispatcher.release(lease_id, num_served)
        self.gone([lease_id])

    def gone(self, lease_ids: list[str]) -> None:
        for lease_id in lease_ids:
            self.leases[lease_id].place, self.leases[lease_id].is_in_batch = Place.GONE, False

    def take_back_unclaimed(self) -> None:
        for lease in self.leases.values():
            if lease.place is Place.GRANTED and self.now_s >= lease.due_s:
                lease.place = Place.WAITING
            if lease.place is Place.SENT and self.now_s >= lease.due_s:
                lease.place = Place.GONE

    def key(self, lease_id: str) -> float:
        return self.dispatcher.policy.key(self.leases[lease_id].stamp)

    def position(self, lease_id: str) -> tuple[float, float, str]:
        """The order within a tenant, worked out anew: the key without penalties, the arrival, who asked first."""
        stamp = self.leases[lease_id].stamp
        return (-self.dispatcher.policy.line_key(stamp), stamp.arrival_s, lease_id)

    def num_tokens(self, lease_ids: list[str]) -> int:
        return sum(self.leases[lease_id].num_tokens for lease_id in lease_ids)

    def in_place(self, *places: Place) -> list[str]:
        return [lease_id for lease_id, lease in self.leases.items() if lease.place in places]

    def on(self, replica_id: str, *places: Place) -> list[str]:
        return [lease_id for lease_id in self.in_place(*places) if self.leases[lease_id].replica_id == replica_id]

    def pick(self, number: int, *places: Place) -> str | None:
        """One of those in these places, recent ones more often."""
        ids = self.in_place(*places)
        return ids[-1 - number % len(ids)] if ids else None
