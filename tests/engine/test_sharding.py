"""Tests that ranks in real processes, each with its part of the model, give the logits of the whole model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from engine import process_group, shared_memory
from engine.architectures import SHARDABLE
from engine.config import EngineConfig
from engine.process_group import World
from engine.runner import build_runner
from engine.sharding import load_shard, parameter_bytes, shard
from tests.engine.playing import CPU, assert_played_like, load_reference, make_played, play
from tests.engine.tiny_models import FAMILIES, MORE_FAMILIES, make_tiny_model
from tests.engine.worlds import RankWorld

TinyModel = Callable[[str], Path]
LENGTHS = [1, 9, 33, 70]
ALONE = World(rank=0, size=1, device=CPU, loading=None)


def play_families(
    rank: int, port: int, put: Callable[[Any], None], folders: dict[str, Path], config: EngineConfig
) -> None:
    """On each rank: every family through the same steps. Puts logits by family, bytes by family, and how it reduced."""
    if config.model_name == "gloo":
        shared_memory.can_use_shared_memory = lambda world_size: False
    world = process_group.join(config, rank, "127.0.0.1", port)
    logits, num_bytes = {}, {}
    for family, folder in folders.items():
        model = load_shard(config, folder, world)
        sequences = make_played(LENGTHS)
        play(build_runner(model, config, world).run, sequences)
        logits[family] = [{position: row.numpy() for position, row in each.logits.items()} for each in sequences]
        num_bytes[family] = parameter_bytes(model)
    put((logits, num_bytes, uses_shared_memory()))
    process_group.leave()


def assert_found_like(reference: PreTrainedModel, found: list[dict[int, Any]]) -> None:
    """What one rank put, against the whole model."""
    sequences = make_played(LENGTHS)
    for sequence, logits in zip(sequences, found, strict=True):
        sequence.logits = {position: torch.from_numpy(row) for position, row in logits.items()}
    assert_played_like(reference, sequences)


def uses_shared_memory() -> bool:
    import deepspeed.comm

    return bool(getattr(deepspeed.comm.comm.cdb, "shm_vector_kernel_level", 0))


def shared_memory_segments(port: int) -> list[str]:
    return [path.name for path in shared_memory.SEGMENT_FOLDER.glob(f"*_{port}_*")]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("size", "reduce", "families"),
    [
        (1, "shm", FAMILIES),
        (2, "shm", (*FAMILIES, *MORE_FAMILIES)),
        (2, "gloo", ("llama",)),
        (3, "shm", ("llama", "qwen3", "mistral", "gemma2")),
    ],
)
def test_ranks_together_give_the_logits_of_the_whole_model(
    size: int, reduce: str, families: tuple[str, ...], tiny_model: TinyModel
) -> None:
    folders = {family: tiny_model(family) for family in families}
    config = EngineConfig(reduce, "", dtype="float32", tensor_parallel_size=size, kv_cache_tokens=1024, num_threads=1)
    with RankWorld(play_families, size, (folders, config)) as world:
        results = world.results()
        assert world.join() == [0] * size
    for family, folder in folders.items():
        reference = load_reference(folder)
        for logits, _, _ in results:
            assert_found_like(reference, logits[family])
        whole = parameter_bytes(reference)
        assert all(num_bytes[family] < whole or size == 1 for _, num_bytes, _ in results)
    if reduce == "gloo":
        assert not any(shared for _, _, shared in results)
    assert shared_memory_segments(world.port) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_head_too_narrow_to_be_shared_is_summed_by_all_ranks_all_the_same(tmp_path: Path) -> None:
    """AutoTP cuts no finer than 64, so that one rank gets nothing of it."""
    folder = make_tiny_model(tmp_path / "narrow", hidden_size=64, num_attention_heads=4, num_key_value_heads=2)
    config = EngineConfig("shm", "", dtype="float32", tensor_parallel_size=2, kv_cache_tokens=1024, num_threads=1)
    with RankWorld(play_families, 2, ({"narrow": folder}, config)) as world:
        results = world.results()
        assert world.join() == [0, 0]
    for logits, _, _ in results:
        assert_found_like(load_reference(folder), logits["narrow"])


def test_every_family_that_may_be_split_is_compared_with_the_whole_model() -> None:
    assert {*FAMILIES, *MORE_FAMILIES} == SHARDABLE


def test_rope_frequencies_keep_their_precision_when_the_weights_lose_theirs(tiny_model: TinyModel) -> None:
    model = shard(load_reference(tiny_model("llama")), ALONE, torch.bfloat16)
    assert model.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    exact = load_reference(tiny_model("llama")).model.rotary_emb.inv_freq
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, exact, rtol=0, atol=0)
