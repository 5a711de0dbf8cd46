"""Compares services over HTTP: each is started in its turn, its answers held to the reference, measured, and ended."""

from __future__ import annotations

import asyncio
import copy
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.http import measure
from benchmarks.load import LevelRun, Workload
from benchmarks.peers.latencies import Latencies, latencies
from benchmarks.peers.offline import distinct_prompts
from benchmarks.peers.pairs import Comparison, comparisons, in_turn
from benchmarks.peers.reference import (
    CHECKED_PROMPT_TOKENS,
    CHECKED_PROMPTS,
    CHECKED_TOKENS,
    Agreement,
    Judge,
    check_answers,
)
from benchmarks.peers.served_answers import Dialect, served_answers
from benchmarks.service import RunningService, running_service, shipped_service
from benchmarks.summary import summarise
from benchmarks.target import Target
from fastserve.errors import ServerFailed
from fastserve.ports import LOOPBACK, free_port

READY_WITHIN_S = 600.0
Start = Callable[[], AbstractContextManager[RunningService]]


@dataclass(frozen=True, slots=True)
class ServedSide:
    """start: runs a new service."""

    name: str
    start: Start
    dialect: Dialect


@dataclass(frozen=True, slots=True)
class ServedTurn:
    """What one start of one service gave."""

    agreement: Agreement
    runs: list[LevelRun]

    @property
    def rates(self) -> list[float]:
        return [level.output_tokens_per_s for level in summarise(self.runs)]


@dataclass(frozen=True, slots=True)
class ServedComparison:
    """agreements and latencies: by side, over all its turns."""

    comparisons: list[Comparison]
    agreements: dict[str, Agreement]
    latencies: dict[str, list[Latencies]]


def compare(
    ours: ServedSide, peer: ServedSide, workload: Workload, clients: Sequence[int], num_pairs: int, judge: Judge
) -> ServedComparison:
    """A service a turn: started, checked, warmed up, asked by each number of clients, ended.

    Raises:
        ServerFailed: one did not start, or did not answer.
        WrongAnswers: one does not generate what the model says.
    """

    def turn_of(side: ServedSide) -> Callable[[int], ServedTurn]:
        return lambda number: _turn(side, workload, clients, judge, seed=number)

    levels = sorted(set(clients))
    pairs = in_turn(num_pairs, turn_of(ours), turn_of(peer))
    turns = {ours.name: [own for own, _ in pairs], peer.name: [other for _, other in pairs]}
    return ServedComparison(
        comparisons(
            [f"output, {level} clients" for level in levels], [(own.rates, other.rates) for own, other in pairs]
        ),
        {name: sum((turn.agreement for turn in of_side), Agreement(0, 0)) for name, of_side in turns.items()},
        {name: latencies([run for turn in of_side for run in turn.runs]) for name, of_side in turns.items()},
    )


def _turn(side: ServedSide, workload: Workload, clients: Sequence[int], judge: Judge, seed: int) -> ServedTurn:
    with side.start() as service:
        prompts = distinct_prompts(CHECKED_PROMPTS, CHECKED_PROMPT_TOKENS, seed)
        answers = served_answers(service.base_url, workload.model, prompts, CHECKED_TOKENS, side.dialect)
        agreement = check_answers(side.name, prompts, answers, judge)
        target = Target(service.base_url, service.started_s, None)
        runs = asyncio.run(measure(target, workload, [clients])).runs
    failures = [failure.reason for run in runs for failure in run.failures]
    if failures:
        raise ServerFailed(f"{side.name}: {len(failures)} requests failed; the first: {failures[0]}")
    return ServedTurn(agreement, runs)


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
