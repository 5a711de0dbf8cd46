"""Owns what can go wrong for a client: one table from exception to HTTP status. Knows nothing of how it went wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from scheduling.errors import (
    DeadlinePassed,
    DeadlineUnmeetable,
    LargerThanQuota,
    LeaseEnded,
    NeverFits,
    QueueFull,
    QuotaSpent,
    WaitTooLong,
)
from scheduling.score import Stamp

MAX_SHOWN_CHARS = 100  # of what a client sent: no refusal is as long as the request


@dataclass(eq=False)
class ServingError(Exception):
    """The root of what serving adds to scheduling's refusals; like those, it crosses process borders by pickle."""

    def __reduce__(self) -> tuple[type[ServingError], tuple[Any, ...]]:
        return type(self), tuple(getattr(self, fact.name) for fact in fields(self))


@dataclass(eq=False)
class ReplicaFailed(ServingError):
    """The replica, or the way to it, broke before the answer was complete. Caught by whoever may lease again.

    engine_ended: its engine did, and it said so: what that computed may be the cause.
    """

    replica_id: str
    reason: str
    stamp: Stamp | None = None  # where the queue has stamped the attempt, and nothing else has told of it
    engine_ended: bool = False

    def __str__(self) -> str:
        return f"replica {self.replica_id} failed: {self.reason}"


@dataclass(eq=False)
class PoisonRequest(ServingError):
    """Replicas died of computing this request; no other is given it. Caught by the ingress; a retry is no use."""

    num_replicas: int

    def __str__(self) -> str:
        return f"{self.num_replicas} replicas ended while they computed this request, and no other will be tried"


@dataclass(eq=False)
class ModelUnavailable(ServingError):
    """No replica of the model can come. Caught by the ingress."""

    model: str
    reason: str
    retry_after_s: float = 5.0

    def __str__(self) -> str:
        return f"model {self.model!r} is unavailable: {self.reason}"


@dataclass(eq=False)
class QueueLost(ServingError):
    """This process has no line to the model's queue any more. Caught by the ingress; the next request opens another."""

    reason: str

    def __str__(self) -> str:
        return f"the queue of the model cannot be reached: {self.reason}"


@dataclass(eq=False)
class GenerationFailed(ServingError):
    """The engine gave up on this one sequence, e.g. for NaN in its logits. Caught by the ingress; a retry is no use."""

    reason: str

    def __str__(self) -> str:
        return f"the answer could not be generated: {self.reason}"


@dataclass(eq=False)
class GrammarTooComplex(ServingError):
    """The grammar of an answer took more than an engine gives one. Caught by the ingress; a retry is no use."""

    param: str | None
    reason: str

    def __str__(self) -> str:
        shown = "the grammar of the answer" if self.param is None else self.param
        return f"{shown}: too complex to be followed to the end of this answer: {self.reason}"


@dataclass(eq=False)
class ServiceEnding(ServingError):
    """The service is being ended. Caught by the ingress; the next one may be up soon."""

    retry_after_s: float = 5.0

    def __str__(self) -> str:
        return "the service is ending, and takes no more requests"


@dataclass(eq=False)
class PoolFull(ServingError):
    """The preprocessing pool holds as much work as it may. Caught by the ingress."""

    max_pending: int
    retry_after_s: float = 1.0

    def __str__(self) -> str:
        return f"{self.max_pending} prompts already wait to be read or tokenised"


@dataclass(eq=False)
class BodiesFull(ServingError):
    """The bodies of other requests leave this one no room. Caught by the ingress."""

    max_bytes: int
    retry_after_s: float = 1.0

    def __str__(self) -> str:
        return f"the bodies of other requests fill the {self.max_bytes} bytes that there are for them"


class ClientDisconnected(Exception):
    """The client went away; its work has been cancelled. Caught by the ingress, which has nobody left to answer."""

    code = "client_disconnected"


class ClientStalled(ClientDisconnected):
    """The client reads its answer no more, or far too slowly: it is cut off."""

    code = "client_stalled"


class ApiError(Exception):
    """An answer that is not an answer: what OpenAI's clients read from `error`, and the status beside it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, object]:
        facts = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": facts}

    def headers(self) -> dict[str, str]:
        if self.retry_after_s is None:
            return {}
        return {"retry-after": str(max(1, math.ceil(self.retry_after_s)))}


@dataclass(frozen=True, slots=True)
class Shape:
    """How one kind of exception looks from outside."""

    status: int
    type: str
    code: str


SHAPES: dict[type[Exception], Shape] = {
    QueueFull: Shape(429, "rate_limit_error", "queue_full"),
    WaitTooLong: Shape(429, "rate_limit_error", "wait_too_long"),
    DeadlineUnmeetable: Shape(429, "rate_limit_error", "deadline_unmeetable"),
    QuotaSpent: Shape(429, "rate_limit_error", "rate_limit_exceeded"),
    LargerThanQuota: Shape(400, "invalid_request_error", "request_exceeds_quota"),
    PoolFull: Shape(429, "rate_limit_error", "queue_full"),
    LeaseEnded: Shape(503, "service_unavailable_error", "lease_ended"),
    BodiesFull: Shape(429, "rate_limit_error", "queue_full"),
    DeadlinePassed: Shape(408, "timeout_error", "deadline_passed"),
    NeverFits: Shape(400, "invalid_request_error", "context_length_exceeded"),
    ReplicaFailed: Shape(503, "service_unavailable_error", "replica_failed"),
    PoisonRequest: Shape(500, "server_error", "poison_request"),
    GenerationFailed: Shape(500, "server_error", "generation_failed"),
    GrammarTooComplex: Shape(400, "invalid_request_error", "grammar_too_complex"),
    ServiceEnding: Shape(503, "service_unavailable_error", "service_ending"),
    QueueLost: Shape(503, "service_unavailable_error", "queue_unavailable"),
    ModelUnavailable: Shape(503, "service_unavailable_error", "model_unavailable"),
}


def to_api_error(error: Exception) -> ApiError | None:
    """The client's view of an exception; None for one that is our own fault (a plain 500)."""
    cause = getattr(error, "cause", None)  # Ray wraps what an actor raised, and its text would be a stack trace
    if isinstance(cause, Exception):
        return to_api_error(cause)
    if isinstance(error, ApiError):
        return error
    shape = next((SHAPES[kind] for kind in type(error).__mro__ if kind in SHAPES), None)
    if shape is None:
        return None
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is None and shape.status in (429, 503):
        retry_after_s = 1.0
    param = error.param if isinstance(error, GrammarTooComplex) else None
    return ApiError(
        shape.status, str(error), type=shape.type, param=param, code=shape.code, retry_after_s=retry_after_s
    )


def internal_error(request_id: str) -> ApiError:
    """Our own fault: the log has the traceback under the same request id."""
    message = f"The server failed to process this request. Its log names the cause under request id {request_id}."
    return ApiError(500, message, type="server_error", code="internal_error")


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A 400 that names the field."""
    return ApiError(400, message, param=param, code=code)


def model_not_found(model: str) -> ApiError:
    shown = repr(model[:MAX_SHOWN_CHARS])
    return ApiError(404, f"The model {shown} does not exist.", param="model", code="model_not_found")
