"""Plays sequences through a runner in mixed batches, as a batcher would. Chooses with a seed, checks the logits."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from engine.attention import ATTENTION_NAME, register_paged_attention
from engine.checkpoint import load_model
from engine.config import EngineConfig
from engine.fused.build import fusable_shard
from engine.fused.runner import FusedRunner
from engine.kv_cache import KVCache
from engine.process_group import World
from engine.protocol import Chunk
from engine.runner import ModelRunner, probe_shapes
from engine.step import Step, arrange
from tests.engine.chunks import make_chunk
from tests.engine.tiny_models import VOCAB_SIZE

BLOCK_SIZE = 16
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class LoneWorld(World):
    """One rank, which needs no group."""

    def gathered(self, value: int) -> list[int]:
        return [value]


ALONE = LoneWorld(rank=0, size=1, device=CPU, loading=None)  # type: ignore[arg-type]


@dataclass(slots=True)
class Played:
    """One sequence: its tokens, its blocks, and the logits seen so far, by position."""

    seq_id: str
    token_ids: list[int]
    block_table: list[int]
    num_computed: int = 0
    logits: dict[int, torch.Tensor] = field(default_factory=dict)

    def next_chunk(self, num_tokens: int) -> Chunk:
        end = min(self.num_computed + num_tokens, len(self.token_ids))
        tokens = self.token_ids[self.num_computed : end]
        return make_chunk(self.seq_id, tokens, start=self.num_computed, block_table=self.block_table)

    @property
    def is_done(self) -> bool:
        return self.num_computed == len(self.token_ids)


def make_played(lengths: list[int], seed: int = 0) -> list[Played]:
    """Random tokens, and blocks in random order out of one pool."""
    rng = random.Random(seed)
    blocks = list(range(sum(-(-length // BLOCK_SIZE) for length in lengths)))
    rng.shuffle(blocks)
    return [
        Played(
            seq_id=str(index),
            token_ids=[rng.randrange(2, VOCAB_SIZE) for _ in range(length)],
            block_table=[blocks.pop() for _ in range(-(-length // BLOCK_SIZE))],
        )
        for index, length in enumerate(lengths)
    ]


def play(
    run: Callable[[Step], torch.Tensor], sequences: list[Played], seed: int = 0, block_size: int = BLOCK_SIZE
) -> None:
    """Steps until all is computed; each step takes some of the sequences, each with one token or a few."""
    rng = random.Random(seed)
    while waiting := [sequence for sequence in sequences if not sequence.is_done]:
        chosen = rng.sample(waiting, rng.randint(1, len(waiting)))
        play_step(run, chosen, [rng.choice([1, 1, 2, 7, 19, 40]) for _ in chosen], block_size)


def play_step(
    run: Callable[[Step], torch.Tensor], chosen: list[Played], num_tokens: list[int], block_size: int = BLOCK_SIZE
) -> None:
    chunks = [sequence.next_chunk(num) for sequence, num in zip(chosen, num_tokens, strict=True)]
    arrangement = arrange(chunks, block_size)
    logits = run(arrangement.step)
    for sequence, chunk, place in zip(chosen, chunks, arrangement.scheduled, strict=True):
        sequence.num_computed += len(chunk.token_ids)
        sequence.logits[sequence.num_computed - 1] = logits[place.first_row].clone()  # valid until the next step


def make_runner(folder: Path, num_blocks: int = 64, dtype: torch.dtype = torch.float32) -> ModelRunner:
    """The whole model on one rank, without DeepSpeed."""
    register_paged_attention()
    model = load_model(folder, dtype, ATTENTION_NAME)
    return ModelRunner(model, KVCache(probe_shapes(model, CPU), num_blocks, BLOCK_SIZE, dtype, CPU), CPU)


def make_fused_runner(
    folder: Path,
    num_blocks: int = 64,
    dtype: torch.dtype = torch.float32,
    block_size: int = BLOCK_SIZE,
    num_threads: int = 1,
) -> FusedRunner:
    """The whole model on one rank as the native program, without DeepSpeed."""
    register_paged_attention()
    model = load_model(folder, dtype, ATTENTION_NAME)
    name = str(dtype).removeprefix("torch.")
    config = EngineConfig("m", "", dtype=name, block_size=block_size, num_threads=num_threads)  # type: ignore[arg-type]
    fusable = fusable_shard(model, config, 512, ALONE)
    assert fusable is not None
    return fusable.runner(config, num_blocks, num_ranks=1)


def load_reference(folder: Path) -> PreTrainedModel:
    """transformers alone, with the attention that is written out step by step."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


@torch.inference_mode()
def assert_played_like(reference: PreTrainedModel, sequences: list[Played], tolerance: float = 1e-5) -> None:
    """All logits seen equal those of one plain forward pass of each sequence."""
    for sequence in sequences:
        expected = reference(torch.tensor([sequence.token_ids])).logits[0]
        positions = sorted(sequence.logits)
        seen = torch.stack([sequence.logits[position] for position in positions])
        torch.testing.assert_close(seen, expected[positions], atol=tolerance, rtol=tolerance)
