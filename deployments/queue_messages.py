"""Owns what routers and replicas say to the queue actor, and what it answers. Plain data; knows nothing of Ray."""

from __future__ import annotations

from dataclasses import dataclass, field

from scheduling.dispatcher import ReplicaState
from scheduling.errors import SchedulingError
from scheduling.request import Grant, Ticket


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
    """This lease has ended. Said by the replica, repeated by the ingress; the second changes nothing."""

    lease_id: str


@dataclass(frozen=True, slots=True)
class SendFailed:
    """The replica refused the lease, or was gone: release the lease and grant that replica nothing until it registers."""

    lease_id: str
    replica_id: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The replica says that it runs this lease."""

    lease_id: str
    replica_id: str


@dataclass(frozen=True, slots=True)
class Register:
    """A replica says that it is here and what it holds. Repeated as its heartbeat."""

    state: ReplicaState
    holding: tuple[str, ...] = ()


QueueMessage = Enqueue | Cancel | Release | SendFailed | Claim | Register


@dataclass(frozen=True, slots=True)
class Granted:
    """The lease may run."""

    grant: Grant


@dataclass(frozen=True, slots=True)
class Refused:
    """The ticket will not run: refused at the door, shed, or past its deadline."""

    lease_id: str
    error: SchedulingError


@dataclass(frozen=True, slots=True)
class Retired:
    """A newer queue actor has taken over: find it and say everything again."""


QueueAnswer = Granted | Refused | Retired


@dataclass(frozen=True, slots=True)
class Delivery:
    """Answers for one owner, numbered `first`, `first + 1`, ...; kept by the queue until a later call acknowledges them."""

    first: int = 0
    answers: tuple[QueueAnswer, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueIdentity:
    """Which queue actor this is. Of several alive at once the latest start is the queue."""

    started_s: float
    retired: bool


@dataclass(slots=True)
class Mailbox:
    """Answers that one owner has not acknowledged yet."""

    next_seq: int = 0
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
