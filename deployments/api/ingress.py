"""Owns the HTTP routes. Knows nothing of Ray: models, settings and the view of the cluster are handed in."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import orjson
import structlog
from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from deployments.api.body_room import BodyRoom
from deployments.api.exchange import Exchange, Surroundings
from deployments.api.flows import ChatFlow, CompletionFlow, GenerateFlow, Workshop
from deployments.api.gate import Gate
from deployments.api.grammar_check import GrammarCheck
from deployments.api.ingress_ports import ClusterView
from deployments.api.key_gate import KeyGate
from deployments.api.model_service import ModelService
from deployments.api.openapi_page import openapi_page
from deployments.api.preprocess import Preprocessor
from deployments.api.request_id import RequestIdMiddleware, request_id_of
from deployments.api.request_telemetry import Telemetry
from deployments.errors import ApiError, ServiceEnding, internal_error, model_not_found
from deployments.telemetry.metrics import ServingMetrics
from deployments.user_config import IngressUserConfig
from scheduling.snapshot import QueueSnapshot

RETRY_WHEN_READY_S = 2.0


class Ingress:
    """Every route of the service.

    settings: read anew for each request, because they may change while the service runs. They may raise ApiError, while
        there are none: then nothing is told but that the process runs.
    """

    def __init__(
        self,
        models: Mapping[str, ModelService],
        settings: Callable[[], IngressUserConfig],
        telemetry: Telemetry,
        cluster: ClusterView,
        preprocessor: Preprocessor,
        grammars: GrammarCheck,
        gate: Gate,
    ) -> None:
        workshop = Workshop(preprocessor, grammars, time.monotonic, time.time)
        self._models = models
        self._settings = settings
        self._cluster = cluster
        self._gate = gate
        bodies = BodyRoom(lambda: settings().bounds.max_unread_body_bytes)
        self._around = Surroundings(
            models, settings, telemetry, preprocessor.pool, bodies, gate, time.monotonic, time.time
        )
        self._chat = ChatFlow(workshop)
        self._completion = CompletionFlow(workshop)
        self._generate = GenerateFlow(workshop)
        self._page = orjson.dumps(openapi_page())

    async def chat_completions(self) -> Response:
        """OpenAI's chat completions, streaming and not."""
        return Exchange(self._chat, self._around)

    async def completions(self) -> Response:
        """OpenAI's completions, streaming and not."""
        return Exchange(self._completion, self._around)

    async def generate(self) -> Response:
        """The simple form: a prompt in, its continuation out."""
        return Exchange(self._generate, self._around)

    async def list_models(self) -> Response:
        """The models that a request may name."""
        return _json({"object": "list", "data": [model.describe() for model in self._models.values()]})

    async def get_model(self, model: str) -> Response:
        """One model."""
        if model not in self._models:
            raise model_not_found(model)
        return _json(self._models[model].describe())

    async def healthz(self) -> Response:
        """Whether this process runs."""
        return _json({"status": "ok"})

    async def readyz(self) -> Response:
        """Whether a request would be accepted now."""
        self._settings()
        reason = str(ServiceEnding()) if self._gate.is_closed else await self._cluster.why_not_ready()
        if reason is not None:
            raise ApiError(
                503, reason, type="service_unavailable_error", code="not_ready", retry_after_s=RETRY_WHEN_READY_S
            )
        return _json({"status": "ready"})

    async def metrics(self) -> Response:
        """The whole service's metrics in Prometheus's text format."""
        return Response(await self._cluster.metrics_text(), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self) -> Response:
        """What may be asked, and what is said then."""
        return Response(self._page, media_type="application/json")

    async def queue(self) -> Response:
        """Who waits, in order, and why; never the prompt."""
        snapshots = await self._cluster.queue_snapshots()
        return _json({"object": "list", "data": [_queue(name, shot) for name, shot in snapshots.items()]})


def create_api(
    models: Mapping[str, ModelService],
    settings: Callable[[], IngressUserConfig],
    metrics: ServingMetrics,
    log: structlog.typing.FilteringBoundLogger,
    cluster: ClusterView,
    preprocessor: Preprocessor,
    grammars: GrammarCheck,
    gate: Gate | None = None,
    *,
    says_request_id: bool = True,
) -> FastAPI:
    """The application that answers HTTP. says_request_id: see `RequestIdMiddleware`."""
    ingress = Ingress(models, settings, Telemetry(metrics, log), cluster, preprocessor, grammars, gate or Gate())
    # FastAPI generates no page: bodies are read by our own rules, which it knows nothing of.
    api = FastAPI(title="FastServe", openapi_url=None, redirect_slashes=False)
    answering = {
        "/v1/chat/completions": ingress.chat_completions,
        "/v1/completions": ingress.completions,
        "/generate": ingress.generate,
    }
    for path, answer in answering.items():
        api.add_api_route(path, answer, methods=["POST"])
    api.add_api_route("/v1/models", ingress.list_models)
    api.add_api_route("/v1/models/{model}", ingress.get_model)
    api.add_api_route("/healthz", ingress.healthz)
    api.add_api_route("/readyz", ingress.readyz)
    api.add_api_route("/metrics", ingress.metrics)
    api.add_api_route("/v1/queue", ingress.queue)
    api.add_api_route("/openapi.json", ingress.openapi)
    api.add_exception_handler(ApiError, _answer_api_error)
    api.add_exception_handler(HTTPException, _answer_http_error)
    api.add_exception_handler(Exception, _answer_crash)
    api.add_middleware(KeyGate, settings=settings, ask_themselves=frozenset(("POST", path) for path in answering))
    api.add_middleware(RequestIdMiddleware, says_it=says_request_id)
    return api


def _queue(model: str, snapshot: QueueSnapshot) -> dict[str, Any]:
    policy = snapshot.policy
    return {
        "model": model,
        "policy": {"name": policy.name, "alpha": policy.alpha, "beta": policy.beta, "epoch": policy.epoch},
        "num_waiting": len(snapshot.waiting),
        "num_running": snapshot.num_running,
        "waiting_tokens": snapshot.waiting_tokens,
        "tokens_per_s": snapshot.tokens_per_s,
        "waiting": [{"position": place, **asdict(view)} for place, view in enumerate(snapshot.waiting)],
        "replicas": [asdict(replica) for replica in snapshot.replicas],
    }


async def _answer_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _json(error.body(), error.status, error.headers())


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """404 and 405 of the router, in the shape of every other error."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
    shown = ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}.", code=code)
    return _json(shown.body(), error.status_code, dict(error.headers or {}))


async def _answer_crash(request: Request, _: Exception) -> Response:
    """Starlette raises the exception again once this is sent, and the server logs it."""
    shown = internal_error(request_id_of(request.scope))
    return _json(shown.body(), shown.status)


def _json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")
