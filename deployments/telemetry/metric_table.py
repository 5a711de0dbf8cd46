"""Owns which metrics exist: name, kind, labels, buckets, and how several sources add up. Records nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "mean", "min"]

BY_CLASS = ("model_name", "class")
BY_MODEL = ("model_name",)
SECONDS = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0)
GAP_SECONDS = (0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0)
TOKENS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0)


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric. name: as dashboards know it, without the `_total` that the text format adds to counters.

    merge: how the gauges of several sources become one; counters and histograms always add up.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = BY_CLASS
    buckets: tuple[float, ...] = ()
    merge: Merge = "sum"

    @property
    def ray_name(self) -> str:
        """Ray takes no colon, and puts `ray_` in front."""
        return self.name.replace(":", "_")


TTFT = MetricSpec(
    "vllm:time_to_first_token_seconds",
    "histogram",
    "From a request's arrival to its first token, queueing included.",
    buckets=SECONDS,
)
ITL = MetricSpec(
    "vllm:inter_token_latency_seconds", "histogram", "Each gap between two messages of tokens.", buckets=GAP_SECONDS
)
TPOT = MetricSpec(
    "vllm:request_time_per_output_token_seconds",
    "histogram",
    "A request's mean gap after its first token.",
    buckets=GAP_SECONDS,
)
E2E = MetricSpec(
    "vllm:e2e_request_latency_seconds", "histogram", "From a request's arrival to its last byte.", buckets=SECONDS
)
QUEUE_TIME = MetricSpec(
    "vllm:request_queue_time_seconds",
    "histogram",
    "From arrival in the queue to the lease.",
    buckets=SECONDS,
)
REQUEST_PROMPT_TOKENS = MetricSpec(
    "vllm:request_prompt_tokens", "histogram", "Prompt tokens of a request.", buckets=TOKENS
)
REQUEST_OUTPUT_TOKENS = MetricSpec(
    "vllm:request_generation_tokens", "histogram", "Generated tokens of a request.", buckets=TOKENS
)
PROMPT_TOKENS = MetricSpec("vllm:prompt_tokens", "counter", "Prompt tokens of requests that began an answer.")
GENERATION_TOKENS = MetricSpec("vllm:generation_tokens", "counter", "Tokens that reached the ingress.")
CACHED_TOKENS = MetricSpec("vllm:prompt_tokens_cached", "counter", "Prompt tokens whose KV was already there.")
SUCCESSES = MetricSpec(
    "vllm:request_success", "counter", "Choices that were answered to the end.", labels=(*BY_CLASS, "finished_reason")
)
FAILURES = MetricSpec(
    "fastserve:request_failure", "counter", "Requests that ended in an error.", labels=(*BY_CLASS, "code")
)
FAILOVERS = MetricSpec(
    "fastserve:failovers", "counter", "Times that an answer has lost its replica and gone on with another."
)
GOODPUT = MetricSpec(
    "fastserve:request_goodput", "counter", "Requests that were answered and met every objective of their class."
)
SHEDS = MetricSpec("fastserve:request_sheds", "counter", "Requests that were turned away for want of room.")
BOUND_MARGIN = MetricSpec(
    "fastserve:overtaking_bound_margin_seconds",
    "gauge",
    "Least distance seen between an overtaking and its bound; below 0 the bound was broken.",
    labels=BY_MODEL,
    merge="min",
)
RUNNING = MetricSpec("vllm:num_requests_running", "gauge", "Sequences in the engines' batches.", labels=BY_MODEL)
WAITING = MetricSpec(
    "vllm:num_requests_waiting", "gauge", "Sequences that wait: in the queue, or in an engine.", labels=BY_MODEL
)
KV_USAGE = MetricSpec(
    "vllm:kv_cache_usage_perc",
    "gauge",
    "Share of the KV cache that is in use, 1 being all of it.",
    labels=BY_MODEL,
    merge="mean",
)
PREEMPTIONS = MetricSpec(
    "vllm:num_preemptions", "counter", "Sequences that gave up their place in a batch.", labels=BY_MODEL
)
PREEMPTIONS_BY_SWAP = MetricSpec(
    "fastserve:preemptions_by_swap", "counter", "Preemptions whose KV blocks went to host memory.", labels=BY_MODEL
)
PREEMPTIONS_BY_RECOMPUTE = MetricSpec(
    "fastserve:preemptions_by_recompute", "counter", "Preemptions whose KV blocks were let go.", labels=BY_MODEL
)
RECOMPUTED_TOKENS = MetricSpec(
    "fastserve:recomputed_tokens", "counter", "Tokens whose KV a preemption had lost.", labels=BY_MODEL
)
BLOCKS_SWAPPED_OUT = MetricSpec(
    "fastserve:kv_blocks_swapped_out", "counter", "KV blocks copied to host memory.", labels=BY_MODEL
)
BLOCKS_SWAPPED_IN = MetricSpec(
    "fastserve:kv_blocks_swapped_in", "counter", "KV blocks copied back from host memory.", labels=BY_MODEL
)
STEPS = MetricSpec("fastserve:engine_steps", "counter", "Steps that the engines have run.", labels=BY_MODEL)

METRICS: tuple[MetricSpec, ...] = (
    TTFT,
    ITL,
    TPOT,
    E2E,
    QUEUE_TIME,
    REQUEST_PROMPT_TOKENS,
    REQUEST_OUTPUT_TOKENS,
    PROMPT_TOKENS,
    GENERATION_TOKENS,
    CACHED_TOKENS,
    SUCCESSES,
    FAILURES,
    FAILOVERS,
    GOODPUT,
    SHEDS,
    BOUND_MARGIN,
    RUNNING,
    WAITING,
    KV_USAGE,
    PREEMPTIONS,
    PREEMPTIONS_BY_SWAP,
    PREEMPTIONS_BY_RECOMPUTE,
    RECOMPUTED_TOKENS,
    BLOCKS_SWAPPED_OUT,
    BLOCKS_SWAPPED_IN,
    STEPS,
)
