"""One replica of a model in Ray Serve: hands calls to rank 0 over its socket, and what each step gave to the feeds.

Wires the rank class of `engine` into the rank group of `cluster`. Computes nothing and orders nothing.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import ray
from ray import serve

from cluster.actor_watchdog import watched
from cluster.placement import ReplicaResources
from cluster.rank_group import RankGroup, RankPlacement
from deployments.engine_link import EngineLink, LinkBroken, SinkGone
from deployments.errors import ReplicaFailed
from deployments.feed.messages import CallStarted
from deployments.feed.sender import Feeds, IngressGone
from deployments.generate_call import GenerateCall, Started
from deployments.queueing.client import QueueClient
from deployments.queueing.lines import find_ray_queue
from deployments.queueing.messages import Claim, Fallen, Leave, Move, Parked, QueueMessage, Register, Release, Resume
from deployments.queueing.vital_task import loud_task
from deployments.replica_life import ReplicaLife
from deployments.telemetry.json_log import make_logger
from deployments.telemetry.metric_snapshot import MetricsSnapshot
from deployments.telemetry.metrics import ServingMetrics
from deployments.telemetry.metrics_reporter import MetricsReporter
from deployments.telemetry.ray_metrics import RaySink
from engine.config import EngineConfig
from engine.protocol import EngineCapacity
from engine.rank import Rank
from engine.wire import ReplicaChannel
from scheduling.replicas import ReplicaState

HEARTBEAT_S = 1.0
CONNECT_TIMEOUT_S = 30.0


class ModelReplica:
    """The deployment class of a model.

    Serve counts a replica as running when its constructor returns, so the constructor loads the model; Serve allows it
    to be asynchronous.
    """

    async def __init__(self, config: EngineConfig, resources: ReplicaResources) -> None:  # type: ignore[misc]
        context = serve.get_replica_context()
        self._replica_id: str = context.replica_tag
        self._started_ms = time.time_ns() // 1_000_000
        began_s = time.monotonic()
        self._group = _rank_group(resources)
        watching = watched(lambda: self._group.pids)
        self._watched = loud_task(watching, "the watchdog")
        self._capacity: EngineCapacity = await self._group.load(config)
        self._started_in_s = time.monotonic() - began_s
        make_logger().info("model loaded", model=config.model_name, model_bytes=self._capacity.model_bytes)
        with tempfile.TemporaryDirectory(prefix="fastserve-") as folder:  # the connection outlives its file
            channel = await self._connect(str(Path(folder) / "rank0.sock"))
        self._is_leaving = False
        self._line = QueueClient(
            f"replica-{self._replica_id}",
            lambda: find_ray_queue(context.app_name, context.deployment),
            self._presence,
            on_order=self._obey,
            on_contact=self._follow_contact,
        )
        self._may_preempt = config.preemption != "off" and config.parked_limit > 0
        self._state = self._describe(config)
        self._link = EngineLink(
            channel,
            lambda lease_id, num_served: self._line.tell(Release(lease_id, num_served)),
            lambda lease_id: self._line.tell(Parked(lease_id, self._replica_id)),
            lambda lease_id, level: self._line.mention(Fallen(lease_id, level)),
        )
        self._feeds = Feeds(self._link.forsake)
        self._metrics = ServingMetrics(f"replica-{self._replica_id}", RaySink())
        reporter = MetricsReporter(context.app_name, self._metrics_now)
        works = {
            "the group of ranks": self._group.watch(),
            "the link to rank 0": self._link.run(),
            "the line to the queue": self._line.run(),
            "the heartbeat": self._heartbeat(),
            "the feeds' beat": self._feeds.beat(),
        }
        self._life = ReplicaLife(works, self._say_farewell)
        # A replica that cannot report is no worse at answering.
        self._reporting = loud_task(reporter.run(), "the replica's metrics")

    async def generate(self, call: GenerateCall) -> None:
        """Serve's entry: ends with the sequence, whose tokens go to the ingress's feed.

        Raises:
            ReplicaFailed: the engine ended before the sequence did, or the ingress cannot be reached.
        """
        grant, address = call.grant, call.feed
        if grant is None or address is None:
            raise ValueError(
                "generate: expected a call with a feed and a grant; the priority router attaches the grant"
            )
        self._line.mention(Claim(grant.lease_id, self._replica_id))
        try:
            feed = await self._feeds.reach(address)
            started = Started(grant.queue_s, grant.policy.key(grant.stamp), self._replica_id, grant.stamp)
            feed.start(CallStarted(grant.lease_id, started))
            await self._link.generate(call.request, feed)
        except (LinkBroken, SinkGone, IngressGone) as error:
            ended = isinstance(error, LinkBroken)
            raise ReplicaFailed(self._replica_id, str(error), engine_ended=ended) from error
        finally:
            self._line.mention(Release(grant.lease_id))  # the link has told it of each call that the engine had

    async def check_health(self) -> None:
        """Serve's health check. A replica that cannot go on ends its process by itself; this is the second line."""
        if self._life.is_over:
            raise RuntimeError("a background task of this replica has ended")

    async def __del__(self) -> None:
        """Serve's destructor, called once the replica has drained."""
        if hasattr(self, "_life"):
            self._life.stop()
        if hasattr(self, "_reporting"):
            self._reporting.cancel()
        if hasattr(self, "_feeds"):
            self._feeds.close()
        if hasattr(self, "_group"):
            self._group.kill()
        if hasattr(self, "_watched"):
            self._watched.cancel()

    async def _connect(self, socket_path: str) -> ReplicaChannel:
        self._group.run(socket_path)
        try:
            return await asyncio.wait_for(ReplicaChannel.connect(socket_path), CONNECT_TIMEOUT_S)
        except BaseException:
            self._group.kill()
            raise

    def _presence(self) -> list[QueueMessage]:
        """What a queue hears of this replica, as long as it may grant anything here."""
        return [] if self._is_leaving else [self._registration()]

    def _registration(self) -> QueueMessage:
        stats = self._link.stats
        num_served = stats.prompt_tokens + stats.generation_tokens
        return Register(self._state, self._link.lease_ids, self._link.held_ids, num_served)

    def _describe(self, config: EngineConfig) -> ReplicaState:
        capacity = self._capacity
        return ReplicaState(
            replica_id=self._replica_id,
            max_num_seqs=capacity.max_num_seqs,
            kv_tokens=capacity.num_blocks * capacity.block_size,
            max_model_len=capacity.max_model_len,
            incarnation=self._started_ms,
            parked_limit=config.parked_limit if self._may_preempt else 0,
            preemption_margin_levels=config.preemption_margin_levels,
            started_in_s=self._started_in_s,
        )

    def _obey(self, order: Resume | Move) -> None:
        """What the queue decides of those who gave way here."""
        if isinstance(order, Resume):
            self._link.resume(order.lease_id, order.stamp)
        else:
            self._link.move(order.lease_id)

    def _follow_contact(self, in_contact: bool) -> None:
        """While no queue says who is next, whoever gave way goes on as this engine has room."""
        if self._may_preempt:
            self._link.hold_displaced(in_contact)

    def _metrics_now(self) -> MetricsSnapshot:
        self._metrics.observe_engine(self._capacity.model_name, self._link.stats)
        return self._metrics.snapshot()

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            for message in self._presence():
                self._line.tell(message)

    def _say_farewell(self) -> None:
        """The queue grants nothing more here, and the open calls fail."""
        self._is_leaving = True
        self._line.tell(Leave(self._replica_id))
        self._link.break_off()


def _rank_group(resources: ReplicaResources) -> RankGroup:
    placement_group = ray.util.get_current_placement_group()
    placement = None if placement_group is None else RankPlacement(placement_group, resources.bundles())
    return RankGroup(Rank, resources.num_ranks, {}, placement)
