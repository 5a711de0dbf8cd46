"""Owns whether an answer that has lost its replica goes on with another. Knows no replica and no model."""

from __future__ import annotations

from dataclasses import dataclass, field

from deployments.errors import PoisonRequest, ReplicaFailed
from deployments.user_config import FailoverConfig

STRIKES = 2  # replicas whose engine ended at a request, the last where it was begun: it is taken for the cause
MAX_STRIKES = 4  # replicas that were lost with it or soon after, whatever ended them
LIVES_AFTER = 16  # tokens that an answer got on by since it lost a replica are more than whatever killed that one


@dataclass(slots=True)
class Moves:
    """How often one answer was moved, and how often it lost its replica and went on.

    A request that kills replicas would take down one after the other. Whoever was computed by a replica that died is
    suspect: the next one begins it beside no other suspect, and says so before it does. If that one dies before the
    answer has one token more, the request is the cause. Whoever waited there for its turn is not, nor whoever has had
    it, unless that comes about again and again. Nor is it where no engine ended: a replica's own process, its host and
    the way to it compute nothing.
    """

    limits: FailoverConfig = field(default_factory=FailoverConfig)
    num_moves: int = 0
    num_failovers: int = 0
    num_strikes: int = 0
    _num_in_vain: int = 0  # of the moves, the last in a row that brought no token
    _moved_at: int = 0
    _num_engines: int = 0  # of the strikes, those where the engine ended
    _struck_at: int = 0

    @property
    def number(self) -> int:
        """Attempts that came before the next one."""
        return self.num_moves + self.num_failovers

    @property
    def is_suspect(self) -> bool:
        return self.num_strikes > 0

    def moved(self, replica_id: str, num_tokens: int) -> None:
        """An engine gave it up in favour of another replica. num_tokens: that the answer has so far.

        Raises:
            ReplicaFailed: that has happened too often since it last got on.
        """
        if num_tokens > self._moved_at:
            self._num_in_vain, self._moved_at = 0, num_tokens
        if self._num_in_vain >= self.limits.max_moves:
            raise ReplicaFailed(replica_id, f"the answer was moved {self._num_in_vain} times without a token")
        self.num_moves += 1
        self._num_in_vain += 1

    def lost(self, failure: ReplicaFailed, num_tokens: int, *, was_computed: bool) -> None:
        """Its replica, or the way to it, failed. num_tokens: that the answer has so far. was_computed: that replica may
        have died of computing it.

        Raises:
            PoisonRequest: it takes replicas down.
            ReplicaFailed: it has lost too many.
        """
        if num_tokens >= self._struck_at + LIVES_AFTER:
            self.num_strikes = self._num_engines = 0
        if was_computed:
            self._strike(failure, got_on=num_tokens > self._struck_at)
            self._struck_at = num_tokens
        if self.num_failovers >= self.limits.max_failovers:
            before = f"; {self.num_failovers} were lost before it" if self.num_failovers else ""
            raise ReplicaFailed(failure.replica_id, f"{failure.reason}{before}") from failure
        self.num_failovers += 1

    def _strike(self, failure: ReplicaFailed, *, got_on: bool) -> None:
        """got_on: it had tokens of the replica, so that another may have been begun there since."""
        self.num_strikes += 1
        self._num_engines += failure.engine_ended
        is_cause = failure.engine_ended and not got_on and self._num_engines >= STRIKES
        if is_cause or self.num_strikes >= MAX_STRIKES:
            raise PoisonRequest(self.num_strikes) from failure
