"""Serve's request router for a model deployment: waits inside Serve for a lease, then sends to the replica it names.

Waiting here, not before the handle call, keeps Serve's queue metrics, cancellation, back-pressure and scale-from-zero.
The class is pickled by value into every process with a handle, so it holds nothing but the hook; the line to the queue
lives in `queueing.lines`, once for each process and model. Must not import torch.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ray.serve._private.replica_result import ReplicaResult
from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from deployments.errors import ModelUnavailable
from deployments.generate_call import GenerateCall
from deployments.queueing.client import QueueClient
from deployments.queueing.lines import queue_line
from deployments.queueing.messages import Release, SendFailed
from scheduling.recent_ids import RecentIds
from scheduling.request import Grant

REPLICA_APPEARS_S = (
    5.0  # how long a granted replica may take to show up in this router's own list; below the queue's sent timeout
)
MAX_RESENDS = 8  # of one call to replicas that turn out dead or full
_MAX_GONE_REMEMBERED = 1_024


class PriorityRouter(RequestRouter):
    """Sends each call where its lease says. `args[0]` of every call is a `GenerateCall`."""

    def initialize_state(self, **kwargs: Any) -> None:
        """Serve's hook: called once, before the first list of replicas."""
        self._gone = RecentIds(_MAX_GONE_REMEMBERED)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Never asked: the choice is the queue's. Serve requires the method."""
        raise NotImplementedError("the priority queue chooses the replica")

    async def _choose_replica_for_request(
        self, pending_request: PendingRequest, *, is_retry: bool = False
    ) -> RunningReplica:
        if is_retry:
            self._give_back(pending_request)
        while True:
            grant = await self._lease(pending_request)
            self._release_unless_taken(grant)
            replica = await self._replica(grant)
            if replica is not None:
                return replica
            self._give_back(pending_request)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Serve's hook: the replicas that are running now."""
        kept = {replica.replica_id for replica in replicas}
        for replica_id in self._replicas.keys() - kept:
            self._gone.add(replica_id.unique_id)
        super().update_replicas(replicas)

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Serve's hook: a call found the replica dead."""
        self._gone.add(replica_id.unique_id)
        super().on_replica_actor_died(replica_id)

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: ReplicaResult) -> None:
        """Serve's hook: the replica took the call. Its end is said here too, for a replica that dies cannot say it."""
        call: GenerateCall = pending_request.args[0]
        line = self._line()
        result.add_done_callback(lambda _: line.mention(Release(call.ticket.lease_id)))

    def _line(self) -> QueueClient:
        return queue_line(self._deployment_id.app_name, self._deployment_id.name)

    async def _lease(self, pending_request: PendingRequest) -> Grant:
        call: GenerateCall = pending_request.args[0]
        grant = await self._line().lease(call.ticket)
        pending_request.args[0] = call.granted(grant)
        return grant

    def _release_unless_taken(self, grant: Grant) -> None:
        """Nobody else speaks for the lease until a replica has taken the call; the running task is that call's."""
        line = self._line()

        def routed(task: asyncio.Task[Any]) -> None:
            if task.cancelled() or task.exception() is not None:
                line.tell(Release(grant.lease_id))

        task = asyncio.current_task()
        assert task is not None, "Serve routes in a task"
        task.add_done_callback(routed)

    async def _replica(self, grant: Grant) -> RunningReplica | None:
        """The replica that the grant names; None when it is gone, or does not appear in time."""
        try:
            async with asyncio.timeout(REPLICA_APPEARS_S):
                while True:
                    for replica_id, replica in self._replicas.items():
                        if replica_id.unique_id == grant.replica_id:
                            return replica
                    if grant.replica_id in self._gone:
                        return None
                    self._replicas_updated_event.clear()
                    await self._replicas_updated_event.wait()
        except TimeoutError:
            return None

    def _give_back(self, pending_request: PendingRequest) -> None:
        """The replica did not take the call: the lease ends, the replica is suspect, the next attempt gets a new id.

        Raises:
            ModelUnavailable: the call was sent often enough.
        """
        call: GenerateCall = pending_request.args[0]
        if call.grant is not None:
            self._line().tell(SendFailed(call.ticket.lease_id, call.grant.replica_id))
        if call.num_resends >= MAX_RESENDS:
            reason = f"the call was sent {MAX_RESENDS + 1} times and no replica took it"
            raise ModelUnavailable(self._deployment_id.name, reason)
        pending_request.args[0] = call.resent()
