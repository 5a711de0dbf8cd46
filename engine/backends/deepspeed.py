"""The default backend: a model that DeepSpeed has split over the ranks, driven step by step from rank 0.

Knows nothing of queues, sockets or Ray.
"""

from __future__ import annotations

import logging

import torch

from engine import process_group
from engine.architectures import check_servable
from engine.checkpoint import eos_token_ids, read_config, resolve
from engine.config import EngineConfig
from engine.process_group import World
from engine.protocol import Chunk, EngineCapacity, Sampled, TokenLogprob
from engine.runner import ModelRunner, build_runner, max_model_len
from engine.sampler import SampleRow, prompt_logprobs, sample
from engine.sharding import load_shard, parameter_bytes, set_threads
from engine.step import Scheduled, arrange
from engine.step_channel import StepChannel

_log = logging.getLogger(__name__)


class DeepSpeedEngine:
    """One rank of the engine. Rank 0 implements `InferenceEngine`; every other rank spends its life in `follow`."""

    def __init__(self, runner: ModelRunner, capacity: EngineCapacity, world: World) -> None:
        self._runner = runner
        self._capacity = capacity
        self._channel = StepChannel(world)

    def capacity(self) -> EngineCapacity:
        return self._capacity

    def execute(self, chunks: list[Chunk]) -> list[Sampled]:
        """Runs the chunks on every rank and samples; rank 0 only.

        Raises:
            RuntimeError: another rank is gone; the engine is of no more use.
        """
        if not chunks:
            return []
        arrangement = arrange(chunks, self._capacity.block_size)
        self._channel.send(arrangement.step)
        return sample_all(self._runner.run(arrangement.step), arrangement.scheduled)

    def follow(self) -> None:
        """Runs what rank 0 sends, until it stops; every rank but 0.

        Raises:
            RuntimeError: another rank is gone.
        """
        while (step := self._channel.receive()) is not None:
            self._runner.run(step)

    def close(self) -> None:
        """Lets the other ranks go and leaves the group; rank 0 only."""
        self._channel.stop()
        process_group.leave()


def load_engine(config: EngineConfig, rank: int, master_addr: str, master_port: int) -> DeepSpeedEngine:
    """Checks, joins the other ranks, loads and splits the model, and allocates the cache; all ranks must call it.

    Raises:
        CheckpointError: there is no such model, or it cannot be served like this.
        InsufficientMemory: weights or cache do not fit.
        RuntimeError: another rank did not come.
    """
    folder = resolve(config.source)
    check_servable(read_config(folder), config.tensor_parallel_size)
    set_threads(config)
    world = process_group.join(config, rank, master_addr, master_port)
    model = load_shard(config, folder, world)
    runner = build_runner(model, config, world)
    num_cache_tokens = runner.cache.num_blocks * config.block_size
    capacity = EngineCapacity(
        model_name=config.model_name,
        max_num_seqs=config.max_num_seqs,
        max_model_len=min(max_model_len(model, config), num_cache_tokens),
        max_num_batched_tokens=config.max_num_batched_tokens,
        block_size=config.block_size,
        num_blocks=runner.cache.num_blocks,
        vocab_size=model.config.vocab_size,
        model_bytes=world.gathered(parameter_bytes(model)),
        eos_token_ids=eos_token_ids(model),
    )
    _report(capacity, runner, rank)
    return DeepSpeedEngine(runner, capacity, world)


def sample_all(logits: torch.Tensor, scheduled: list[Scheduled]) -> list[Sampled]:
    """One `Sampled` for each chunk that samples or reports its prompt, in order."""
    sampling = [place for place in scheduled if place.chunk.samples]
    chosen = _choose(logits, sampling)
    return [
        Sampled(
            seq_id=place.chunk.seq_id,
            token_id=found.token_id if found else None,
            logprob=found.logprob if found else None,
            prompt_logprobs=_of_prompt(logits, place),
            error=found.error if found else None,
        )
        for place in scheduled
        if (found := chosen.get(place.chunk.seq_id)) or place.num_prompt_rows
    ]


def _choose(logits: torch.Tensor, places: list[Scheduled]) -> dict[str, Sampled]:
    if not places:
        return {}
    rows = [
        SampleRow(place.chunk.seq_id, place.chunk.sampling, place.chunk.history, place.chunk.num_prompt_tokens)
        for place in places
    ]
    indices = torch.tensor([place.first_row + place.num_prompt_rows for place in places], device=logits.device)
    return {found.seq_id: found for found in sample(logits.index_select(0, indices), rows)}


def _of_prompt(logits: torch.Tensor, place: Scheduled) -> list[TokenLogprob] | None:
    chunk, num_top = place.chunk, place.chunk.sampling.prompt_logprobs
    if num_top is None or not place.num_prompt_rows:
        return None
    rows = logits[place.first_row : place.first_row + place.num_prompt_rows]
    next_token_ids = chunk.history[chunk.start + 1 : chunk.start + 1 + place.num_prompt_rows]
    return prompt_logprobs(rows, next_token_ids, num_top)


def _report(capacity: EngineCapacity, runner: ModelRunner, rank: int) -> None:
    if rank == 0:
        parts = ", ".join(f"rank {rank}: {num_bytes:,}" for rank, num_bytes in enumerate(capacity.model_bytes))
        _log.info("%s: parameter bytes: %s", capacity.model_name, parts)
    num_tokens = capacity.num_blocks * capacity.block_size
    _log.info("rank %d: KV cache of %d tokens, %d bytes", rank, num_tokens, runner.cache.num_bytes)
