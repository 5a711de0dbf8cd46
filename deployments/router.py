"""Serve's request router for a model deployment: waits inside Serve for a lease, then sends to the replica it names.

Waiting here, not before the handle call, keeps Serve's queue metrics, cancellation, back-pressure and scale-from-zero.
The class is pickled by value into every process with a handle, so it holds nothing but the hook; the line to the queue
lives in `queue_lines`, once for each process and model. Must not import torch.
"""

from __future__ import annotations

import asyncio

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from deployments.generate_call import GenerateCall
from deployments.queueing.lines import queue_line
from deployments.queueing.messages import Release, SendFailed
from scheduling.request import Grant

REPLICA_APPEARS_S = 5.0  # how long a granted replica may take to show up in this router's own list


class PriorityRouter(RequestRouter):
    """Sends each call where its lease says. `args[0]` of every call is a `GenerateCall`."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Never asked: the choice is the queue's. Serve requires the method."""
        raise NotImplementedError("the priority queue chooses the replica")

    async def _choose_replica_for_request(
        self, pending_request: PendingRequest, *, is_retry: bool = False
    ) -> RunningReplica:
        line = queue_line(self._deployment_id.app_name, self._deployment_id.name)
        if is_retry:
            self._give_back(pending_request)
        while True:
            call: GenerateCall = pending_request.args[0]
            grant = await line.lease(call.ticket)
            pending_request.args[0] = call.granted(grant)
            try:
                replica = await self._replica(grant)
            except asyncio.CancelledError:
                line.tell(Release(grant.lease_id))
                raise
            if replica is not None:
                return replica
            self._give_back(pending_request)

    async def _replica(self, grant: Grant) -> RunningReplica | None:
        """The replica that the grant names; None when this router does not come to know it in time."""
        try:
            async with asyncio.timeout(REPLICA_APPEARS_S):
                while True:
                    for replica_id, replica in self._replicas.items():
                        if replica_id.unique_id == grant.replica_id:
                            return replica
                    self._replicas_updated_event.clear()
                    await self._replicas_updated_event.wait()
        except TimeoutError:
            return None

    def _give_back(self, pending_request: PendingRequest) -> None:
        """The replica did not take the call: the lease ends, the replica is suspect, the next attempt gets a new id."""
        call: GenerateCall = pending_request.args[0]
        if call.grant is not None:
            line = queue_line(self._deployment_id.app_name, self._deployment_id.name)
            line.tell(SendFailed(call.ticket.lease_id, call.grant.replica_id))
        pending_request.args[0] = call.resent()
