"""Puts Ray Serve's deployment handle behind `ModelHandle`: every way a replica can break becomes `ReplicaFailed`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

import grpc
from ray.exceptions import RayActorError, RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import (
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from ray.serve.handle import DeploymentHandle

from deployments.errors import ModelUnavailable, ReplicaFailed
from deployments.feed.mailbox import Mailbox
from deployments.feed.receiver import TokenFeed
from deployments.generate_call import GenerateCall, GenerationEvent
from scheduling.score import Stamp

LAST_TOKENS_WITHIN_S = 5.0  # after Serve has said that the call has ended

# What a dead, cut off or vanished replica raises, in Serve's plain and its gRPC data plane.
REPLICA_ERRORS = (RayActorError, TaskCancelledError, RequestCancelledError, ReplicaUnavailableError, grpc.RpcError)

#: Told the lease that was lost, and the replica that it was lost with.
OnLoss = Callable[[str, str], None]


class ServeModelHandle:
    """A model deployment as the ingress sees it: calls go through Serve, their tokens come over the feed.

    host: gives the address of this node, at which replicas reach the feed. stamp_of: what the queue has stamped a lease
    with, where this process has heard of it. on_loss: told the lease and the replica that was lost with it.
    """

    def __init__(
        self,
        name: str,
        max_model_len: int | None,
        handle: DeploymentHandle[Any],
        feed: TokenFeed,
        host: Callable[[], str],
        stamp_of: Callable[[str], Stamp | None] = lambda lease_id: None,
        on_loss: OnLoss = lambda lease_id, replica_id: None,
    ) -> None:
        self.name = name
        self.max_model_len = max_model_len
        self._handle = handle.options(method_name="generate")
        self._feed = feed
        self._host = host
        self._stamp_of = stamp_of
        self._on_loss = on_loss
        self._ends: set[asyncio.Task[None]] = set()

    async def generate(self, call: GenerateCall) -> AsyncGenerator[GenerationEvent, None]:
        """See `ModelHandle.generate`. Closing it cancels the call wherever it is: waiting for a lease, or running."""
        address = await self._feed.listen(self._host())
        with self._feed.mailbox(call.ticket.lease_id) as mailbox:
            response: Any = self._handle.remote(replace(call, feed=address))
            end = self._watch_end(response, mailbox)
            try:
                async for event in mailbox.read():
                    yield event
            except ReplicaFailed as failure:
                failure.stamp = self._stamp_of(call.ticket.lease_id)
                if mailbox.lease_id is not None:
                    self._on_loss(mailbox.lease_id, mailbox.replica_id)
                raise
            finally:
                if not mailbox.is_complete:
                    response.cancel()
                    end.cancel()

    def _watch_end(self, response: Any, mailbox: Mailbox) -> asyncio.Task[None]:
        """Tells the mailbox how the call failed. It outlives the answer by as long as Serve takes to end the call."""

        def ended(end: asyncio.Task[None]) -> None:
            self._ends.discard(end)
            if not end.cancelled() and (error := end.exception()) is not None:
                mailbox.fail(self._meaning(error, mailbox.replica_id))

        end = asyncio.create_task(_end(response, mailbox))
        self._ends.add(end)
        end.add_done_callback(ended)
        return end

    def _meaning(self, error: BaseException, replica_id: str) -> BaseException:
        """What Serve's error says of the model. What the replica itself said stays as it is."""
        if isinstance(error, DeploymentUnavailableError):
            return ModelUnavailable(self.name, "it failed to deploy")
        if isinstance(error, RayTaskError):
            return error.cause if isinstance(error.cause, ReplicaFailed) else error
        if isinstance(error, (*REPLICA_ERRORS, RayError)):  # the replica, its worker, its node, or the way to it
            return ReplicaFailed(replica_id, type(error).__name__)
        if isinstance(error, RayServeException):
            return ModelUnavailable(self.name, str(error))
        return error


async def _end(response: Any, mailbox: Mailbox) -> None:
    """Waits for the end of the call, and then for the last of its tokens."""
    try:
        await response
        async with asyncio.timeout(LAST_TOKENS_WITHIN_S):
            await mailbox.ended.wait()
    except TimeoutError:
        raise ReplicaFailed(mailbox.replica_id, "its call ended before the answer did") from None
    except asyncio.CancelledError as error:
        if _is_cancelled_here():
            raise
        raise ReplicaFailed(mailbox.replica_id, "the call was cancelled from the other end") from error


def _is_cancelled_here() -> bool:
    """Whether it is our own task that is being cancelled; a replica's end can look the same."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
