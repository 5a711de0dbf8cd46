"""Owns what one call has received and nobody has read yet. Knows nothing of connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from deployments.errors import ReplicaFailed
from deployments.feed.messages import BEAT_S, CallStarted
from deployments.generate_call import Entered, GenerationEvent
from engine.protocol import SequenceOutput

STARTS_WITHIN_S = 15.0  # of its grant: the replica may not be listed yet, nor have a connection to here (5 s each)


class Mailbox:
    """One call's. It holds at most the tokens of one sequence, which the request's max_tokens bounds.

    A call may be sent more than once, each attempt under a lease id of its own. The attempt that started last is the
    one that counts, until it has said something: from then on there is no other. lease_id: its own.

    Who has started is heard every second. Before that nobody else notices where a call is lost with its replica's host,
    or the answer to it: an attempt that is on its way for too long has failed.
    """

    def __init__(self) -> None:
        self._events: list[GenerationEvent] = []
        self._arrived = asyncio.Event()
        self._failure: BaseException | None = None
        self.lease_id: str | None = None
        self._source: object = None
        self._has_output = False
        self.replica_id = "(none yet)"
        self.ended = asyncio.Event()
        self._expected: str | None = None
        self._late: asyncio.TimerHandle | None = None

    def expect(self, lease_id: str, replica_id: str | None) -> None:
        """An attempt is on its way to this replica; None: the replica did not take it, or has lost it."""
        self.close()
        self._expected = lease_id
        if replica_id is not None:
            self._wait_for_start(lease_id, replica_id)
        elif self._has_output and lease_id == self.lease_id:
            self.fail(ReplicaFailed(self.replica_id, "the call to it broke"))

    def close(self) -> None:
        """Nobody is expected any more."""
        if self._late is not None:
            self._late.cancel()

    def start(self, message: CallStarted, source: object) -> None:
        """An attempt has started, by what `source` says."""
        if not self._has_output:
            self.lease_id, self._source = message.lease_id, source
            self.replica_id = message.started.replica_id
            if message.lease_id == self._expected:
                self.close()
            self._put(message.started)

    def lose(self, source: object) -> None:
        """What `source` said so far was the last of it."""
        if source is self._source:
            self.fail(ReplicaFailed(self.replica_id, "its connection broke"))

    @property
    def is_complete(self) -> bool:
        """Whether the last message of the sequence has come."""
        return self.ended.is_set() and self._failure is None

    def put(self, output: SequenceOutput) -> None:
        """Takes what the attempt that counts has given; what another one gives is dropped."""
        if output.lease_id != self.lease_id or self.ended.is_set():
            return
        self._has_output = True
        self._put(output)
        if output.finish_reason is not None:
            self.ended.set()

    def enter(self, lease_id: str) -> None:
        """The attempt that counts is computed from now on."""
        if lease_id == self.lease_id and not self.ended.is_set():
            self._put(Entered())

    def fail(self, failure: BaseException) -> None:
        """Nothing more will come. The first failure is raised once what came before has been read."""
        if self._failure is None and not self.ended.is_set():
            self._failure = failure
            self.ended.set()
            self._arrived.set()

    async def read(self) -> AsyncGenerator[GenerationEvent, None]:
        """One `Started` or more, then outputs, the last with a finish reason.

        Raises:
            Exception: what `fail` was told.
        """
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            events, self._events = self._events, []
            for event in events:
                yield event
                if isinstance(event, SequenceOutput) and event.finish_reason is not None:
                    return
            if self._failure is not None:
                raise self._failure

    def _wait_for_start(self, lease_id: str, replica_id: str, num_beats: int = 0) -> None:
        """A pause of this process's own is not counted: what was said meanwhile is read before the next look."""
        if num_beats * BEAT_S < STARTS_WITHIN_S:
            wait = asyncio.get_running_loop().call_later
            self._late = wait(BEAT_S, self._wait_for_start, lease_id, replica_id, num_beats + 1)
        elif not self._has_output:
            self.lease_id, self.replica_id = lease_id, replica_id
            self.fail(ReplicaFailed(replica_id, f"the call has not started there within {STARTS_WITHIN_S:g} s"))

    def _put(self, event: GenerationEvent) -> None:
        self._events.append(event)
        self._arrived.set()
