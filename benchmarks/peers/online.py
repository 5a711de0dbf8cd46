"""Compares services over HTTP: each is started in its turn, measured by the same clients, and ended."""

from __future__ import annotations

import asyncio
import copy
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from benchmarks.http import Target, measure
from benchmarks.load import Workload
from benchmarks.peers.pairs import Comparison, comparisons, in_turn
from benchmarks.service import RunningService, running_service, shipped_service
from benchmarks.summary import summarise
from fastserve.errors import ServerFailed
from fastserve.ports import LOOPBACK, free_port

READY_WITHIN_S = 600.0
Start = Callable[[], AbstractContextManager[RunningService]]


def compare(ours: Start, peer: Start, workload: Workload, clients: Sequence[int], num_pairs: int) -> list[Comparison]:
    """A service a turn: started, warmed up, asked by each number of clients, ended.

    Raises:
        ServerFailed: one did not start, or did not answer.
    """
    pairs = in_turn(num_pairs, _turn_of(ours, workload, clients), _turn_of(peer, workload, clients))
    return comparisons([f"output, {number} clients" for number in clients], pairs)


def without_prefix_caching(document: dict[str, Any]) -> dict[str, Any]:
    """A configuration that computes every prompt, as the peer does."""
    changed = copy.deepcopy(document)
    for application in changed["applications"]:
        for model in application["args"]["models"]:
            model["prefix_caching"] = False
    return changed


def our_service(document: dict[str, Any]) -> AbstractContextManager[RunningService]:
    return shipped_service(without_prefix_caching(document), READY_WITHIN_S)


def vllm_service(
    python: Path, folder: Path, name: str, max_num_seqs: int, max_model_len: int, log: Path
) -> AbstractContextManager[RunningService]:
    """vLLM's own server with its defaults, but for what the comparison fixes."""
    port = free_port()
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--host", LOOPBACK, "--port", str(port)]
    command += ["--model", str(folder), "--served-model-name", name, "--dtype", "bfloat16"]
    command += ["--max-num-seqs", str(max_num_seqs), "--max-model-len", str(max_model_len)]
    command += ["--no-enable-prefix-caching"]
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": cores}
    environment |= {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}  # it has all that it needs
    return running_service(
        command, f"http://{LOOPBACK}:{port}", log, READY_WITHIN_S, ready_path="/health", environment=environment
    )


def log_file(name: str) -> Path:
    """Where a service's output goes; it is left behind for who wants to know why it failed."""
    return Path(tempfile.gettempdir()) / f"fastserve-peer-{name}.log"


def _turn_of(start: Start, workload: Workload, clients: Sequence[int]) -> Callable[[int], list[float]]:
    def turn(number: int) -> list[float]:
        with start() as service:
            target = Target(service.base_url, service.started_s, None)
            runs = asyncio.run(measure(target, workload, [clients])).runs
        failures = [failure.reason for run in runs for failure in run.failures]
        if failures:
            raise ServerFailed(f"{service.base_url}: {len(failures)} requests failed; the first: {failures[0]}")
        return [level.output_tokens_per_s for level in summarise(runs)]

    return turn
