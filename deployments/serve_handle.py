"""Puts Ray Serve's deployment handle behind `ModelHandle`: every way a replica can break becomes `ReplicaFailed`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
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
from deployments.generate_call import GenerateCall, GenerationEvent, Started

# What a dead, cut off or vanished replica raises, in Serve's plain and its gRPC data plane.
REPLICA_ERRORS = (RayActorError, TaskCancelledError, RequestCancelledError, ReplicaUnavailableError, grpc.RpcError)


class ServeModelHandle:
    """A model deployment as the ingress sees it."""

    def __init__(self, name: str, max_model_len: int | None, handle: DeploymentHandle[Any]) -> None:
        self.name = name
        self.max_model_len = max_model_len
        self._handle = handle.options(stream=True, method_name="generate")

    async def generate(self, call: GenerateCall) -> AsyncGenerator[GenerationEvent, None]:
        """See `ModelHandle.generate`. Closing it cancels the call wherever it is: waiting for a lease, or running."""
        replica_id = "(none yet)"
        response: Any = self._handle.remote(call)
        finished = False
        try:
            async for event in response:
                if isinstance(event, Started):
                    replica_id = event.replica_id
                yield event
            finished = True
        except DeploymentUnavailableError as error:
            raise ModelUnavailable(self.name, "it failed to deploy") from error
        except REPLICA_ERRORS as error:
            raise ReplicaFailed(replica_id, type(error).__name__) from error
        except RayTaskError:
            raise  # what the replica itself said
        except RayError as error:  # its worker, its node, or the way to it
            raise ReplicaFailed(replica_id, type(error).__name__) from error
        except RayServeException as error:
            raise ModelUnavailable(self.name, str(error)) from error
        except asyncio.CancelledError as error:
            if _is_cancelled_here():
                raise
            raise ReplicaFailed(replica_id, "the call was cancelled from the other end") from error
        finally:
            if not finished:
                response.cancel()


def _is_cancelled_here() -> bool:
    """Whether it is our own task that is being cancelled; a replica's end can look the same."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
