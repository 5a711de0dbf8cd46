"""The HTTP deployment in Ray Serve: gives the API its models, settings and view of the cluster. No routes here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve._private.common import DeploymentID
from ray.serve._private.long_poll import LongPollClient
from ray.serve.handle import DeploymentHandle
from ray.util import get_node_ip_address

from cluster.actor_watchdog import watched
from deployments.api.gate import Gate
from deployments.api.grammar_check import GrammarCheck, GrammarJudge
from deployments.api.ingress import create_api
from deployments.api.model_service import ModelCard, ModelService
from deployments.api.preprocess import Preprocessor
from deployments.api.scored_pool import ScoredPool
from deployments.cluster_view import ServeClusterView
from deployments.config import ModelConfig, ServingConfig
from deployments.ending import folder_of_launcher, follow
from deployments.feed.receiver import TokenFeed
from deployments.ingress_settings import IngressSettings
from deployments.key_source import follow_keys, warn_of_readers
from deployments.queueing.lines import configure_queue, follow_sent, granted_stamp, report_loss
from deployments.queueing.membership import watch_membership
from deployments.queueing.messages import Configure
from deployments.queueing.vital_task import loud_task
from deployments.serve_handle import OnLoss, ServeModelHandle
from deployments.telemetry.json_log import make_logger
from deployments.telemetry.metrics import ServingMetrics
from deployments.telemetry.metrics_reporter import MetricsReporter
from deployments.telemetry.ray_metrics import RaySink
from deployments.user_config import BoundsConfig, IngressUserConfig
from engine.architectures import context_length
from engine.checkpoint import read_config, resolve
from engine.grammar_trial import GrammarTrial
from engine.tokenizer import Tokenizer
from scheduling.load import ClassObjective
from scheduling.score import Stamp

NUM_POOL_THREADS = 2
TRIALS_END_WITHIN_S = 2.0


@serve.ingress()
class IngressReplica:
    """One ingress replica. Serve calls `reconfigure` with the `user_config` at the start and at every live change."""

    def __init__(self, config: ServingConfig, handles: dict[str, DeploymentHandle[Any]]) -> None:
        context = serve.get_replica_context()
        self._app_name: str = context.app_name
        self._settings = IngressSettings()
        self._log = make_logger()
        self._feed = TokenFeed()
        self._models = {model.name: self._service_of(model, handles[model.name]) for model in config.models}
        self._metrics = ServingMetrics(f"ingress-{context.replica_tag}", RaySink())
        self._reporter = MetricsReporter(self._app_name, self._metrics.snapshot)
        max_pending = BoundsConfig().max_pending_prompts
        self._pool = ScoredPool(NUM_POOL_THREADS, max_pending)
        self._grammar_pool = ScoredPool(1, max_pending, "grammars")
        self._gate = Gate()
        self._works: list[asyncio.Task[None]] = []
        self._watches: list[LongPollClient] = []

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Serve's hook: called once, on the replica's event loop, after the constructor."""
        following = follow_keys(lambda: self._settings.keys, self._take, self._log)
        self._works = [
            loud_task(watched(), "the watchdog"),
            loud_task(self._reporter.run(), "the ingress's metrics"),
            loud_task(following, "the watch of the file of API keys"),
        ]
        if (folder := folder_of_launcher()) is not None:
            self._works.append(loud_task(follow(folder, self._gate), "the look-out for the end of the service"))
        cluster = ServeClusterView(self._app_name, list(self._models), self._reporter)
        self._watches = [self._watch(name, cluster) for name in self._models]
        preprocessor = Preprocessor(self._pool)
        return create_api(
            self._models,
            self._settings.in_force,
            self._metrics,
            self._log,
            cluster,
            preprocessor,
            GrammarCheck(self._grammar_pool),
            self._gate,
            says_request_id=False,
        )

    def _service_of(self, model: ModelConfig, handle: DeploymentHandle[Any]) -> ModelService:
        stamp_of = partial(granted_stamp, self._app_name, model.name)
        on_loss = partial(report_loss, self._app_name, model.name)
        follow_sent(self._app_name, model.name, self._feed.expect)
        return model_service(model, handle, self._feed, stamp_of, on_loss)

    def _watch(self, model_name: str, cluster: ServeClusterView) -> LongPollClient:
        """Keeps the view told of what Serve says of a model."""
        return watch_membership(
            DeploymentID(name=model_name, app_name=self._app_name),
            partial(cluster.follow, model_name),
            client_id=f"{ServeClusterView.__name__}:{self._metrics.source_id}:{model_name}",
        )

    def reconfigure(self, user_config: dict[str, Any] | None, rank: object) -> None:
        """Takes new settings, with the keys that they name: nobody is served before those are known.

        rank: of no use, but Serve calls this without a `user_config` too where it is asked for.

        Raises:
            ConfigError: they are wrong; the old ones stay.
        """
        settings = self._settings.told(user_config)
        if settings is not None:
            self._take(settings)
            warn_of_readers(self._settings.keys, self._log)

    def _take(self, settings: IngressUserConfig) -> None:
        self._settings.take(settings)
        self._pool.max_pending = settings.bounds.max_pending_prompts
        self._grammar_pool.max_pending = settings.bounds.max_pending_prompts
        self._configure_queues(settings)

    async def __del__(self) -> None:
        """Serve's destructor, called once the replica has drained."""
        for work in getattr(self, "_works", []):
            work.cancel()
        if hasattr(self, "_feed"):
            self._feed.close()
            await end_trials([model.grammars for model in self._models.values()])

    def _configure_queues(self, settings: IngressUserConfig) -> None:
        objectives = {name: ClassObjective(one.min_priority, one.ttft_s) for name, one in settings.classes.items()}
        told = Configure(
            settings.score_policy(),
            settings.admission_bounds(),
            settings.tenant_weights(),
            objectives,
            settings.quotas(),
        )
        for name in self._models:
            configure_queue(self._app_name, name, told)


async def end_trials(judges: Iterable[GrammarJudge], within_s: float = TRIALS_END_WITHIN_S) -> None:
    """Ends the processes that try grammars, off the event loop: each waits for the trial that runs in it.

    One that takes longer ends with this process.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await asyncio.gather(*(asyncio.to_thread(judge.close) for judge in judges))


def model_service(
    model: ModelConfig,
    handle: DeploymentHandle[Any],
    feed: TokenFeed,
    stamp_of: Callable[[str], Stamp | None] = lambda lease_id: None,
    on_loss: OnLoss = lambda lease_id, replica_id: None,
) -> ModelService:
    """What the ingress needs of a model; it reads the checkpoint's tokenizer and configuration, never its weights."""
    folder = resolve(model.source)
    config = read_config(folder)
    max_model_len = model.longest_sequence(context_length(config))
    card = ModelCard(model.name, _created_s(folder), max_model_len)
    model_handle = ServeModelHandle(model.name, max_model_len, handle, feed, get_node_ip_address, stamp_of, on_loss)
    tokenizer = Tokenizer.load(folder)
    grammars = GrammarTrial(tokenizer.vocabulary())
    return ModelService(model_handle, tokenizer, card, grammars, getattr(config, "vocab_size", None))


def _created_s(folder: Path) -> int:
    """Unix seconds of the checkpoint's configuration: every ingress that reads the same files says the same."""
    return int((folder / "config.json").stat().st_mtime)
