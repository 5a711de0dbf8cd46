"""Owns what routers and replicas say to the queue actor, and what it answers. Plain data; knows nothing of Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scheduling.admission import AdmissionBounds
from scheduling.errors import SchedulingError
from scheduling.load import ClassObjective
from scheduling.quotas import QuotaLimits
from scheduling.replicas import ReplicaState
from scheduling.request import Grant, Ticket
from scheduling.score import ScorePolicy, Stamp


@dataclass(frozen=True, slots=True)
class Enqueue:
    """A router asks for a lease."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody wants this lease any more, granted or not."""

    lease_id: str


@dataclass(frozen=True, slots=True)
class Release:
    """This lease has ended. Said by the replica, repeated by the ingress; the second changes nothing.

    num_served: tokens of prompt and answer that were computed for it, where that is known.
    """

    lease_id: str
    num_served: int | None = None


@dataclass(frozen=True, slots=True)
class SendFailed:
    """The replica refused the lease, or was gone: end the lease, and grant it nothing until it registers."""

    lease_id: str
    replica_id: str


@dataclass(frozen=True, slots=True)
class Sent:
    """The owner has the grant and is handing the call to this replica, which now has longer to claim it.

    ticket: with its stamp, where this is said to a queue that is new and knows nothing of the lease.
    """

    lease_id: str
    replica_id: str
    ticket: Ticket | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The replica says that it runs this lease."""

    lease_id: str
    replica_id: str


@dataclass(frozen=True, slots=True)
class Parked:
    """The replica's engine let this lease give way to another; it waits there until `Resume` or `Move`."""

    lease_id: str
    replica_id: str


@dataclass(frozen=True, slots=True)
class Fallen:
    """The replica's engine has let this lease fall to a level."""

    lease_id: str
    level: int


@dataclass(frozen=True, slots=True)
class Register:
    """A replica says that it is here and what it holds; `parked` are those of its leases that gave way to others.

    Repeated as its heartbeat. num_served: prompt and output tokens that it has computed since its start.
    """

    state: ReplicaState
    holding: tuple[str, ...] = ()
    parked: tuple[str, ...] = ()
    num_served: int = 0


@dataclass(frozen=True, slots=True)
class Leave:
    """A replica is about to end: grant it nothing more."""

    replica_id: str


@dataclass(frozen=True, slots=True)
class Configure:
    """The weights and bounds that an ingress was given. New weights begin a new epoch; repetition changes nothing.

    tenant_weights: of all tenants that are configured. objectives: by the name of the service class. quotas: by
    account, of all keys that have any.
    """

    policy: ScorePolicy
    bounds: AdmissionBounds
    tenant_weights: dict[str, float] = field(default_factory=dict)
    objectives: Mapping[str, ClassObjective] = field(default_factory=dict)
    quotas: Mapping[str, QuotaLimits] = field(default_factory=dict)


QueueMessage = Enqueue | Cancel | Release | SendFailed | Sent | Claim | Parked | Fallen | Register | Leave | Configure


@dataclass(frozen=True, slots=True)
class Granted:
    """The lease may run."""

    grant: Grant


@dataclass(frozen=True, slots=True)
class Queued:
    """The ticket waits under this stamp; said again with it to another queue, it keeps its place."""

    lease_id: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Refused:
    """The ticket will not run: refused at the door, shed, or past its deadline."""

    lease_id: str
    error: SchedulingError


@dataclass(frozen=True, slots=True)
class Retired:
    """A newer queue actor has taken over: find it and say everything again."""


@dataclass(frozen=True, slots=True)
class Introduce:
    """This queue does not know the owner, or no longer: nothing of the batch was taken; say everything again."""


@dataclass(frozen=True, slots=True)
class Resume:
    """To a replica: this parked lease may go on, under this stamp."""

    lease_id: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Move:
    """To a replica: end this parked lease as moved; another replica has room for it."""

    lease_id: str


QueueAnswer = Granted | Queued | Refused | Resume | Move | Retired | Introduce


@dataclass(frozen=True, slots=True)
class Delivery:
    """Answers for one owner, numbered `first`, `first + 1`, ...; the queue keeps them until they are acknowledged.

    Numbers start above 0, so that an owner which has seen none has been told nothing yet.
    """

    first: int = 0
    answers: tuple[QueueAnswer, ...] = ()

    @property
    def sends_away(self) -> bool:
        """Whether the batch that this answers was left untaken."""
        return any(isinstance(answer, Retired | Introduce) for answer in self.answers)


@dataclass(slots=True)
class Mailbox:
    """Answers that one owner has not acknowledged yet."""

    next_seq: int
    answers: list[QueueAnswer] = field(default_factory=list)

    def post(self, answer: QueueAnswer) -> None:
        self.answers.append(answer)
        self.next_seq += 1

    def acknowledge(self, num_seen: int) -> None:
        """Forget the answers numbered below `num_seen`."""
        first = self.next_seq - len(self.answers)
        del self.answers[: max(0, num_seen - first)]

    def delivery(self) -> Delivery:
        return Delivery(self.next_seq - len(self.answers), tuple(self.answers))
