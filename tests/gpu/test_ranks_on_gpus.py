"""Tests that ranks on GPUs, each a process that sees one device, answer as the whole model does on CPU in float32."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.config import Device, EngineConfig
from engine.protocol import TokenLogprob
from engine.sharding import parameter_bytes
from engine.varlen_attention import PAGE_TOKENS
from engine.wire import ReplicaChannel
from tests.engine.playing import assert_played_like, load_reference
from tests.engine.test_rank import PROMPTS, answers, generated, greedy_request
from tests.engine.tiny_models import make_tiny_model
from tests.engine.worlds import RankWorld
from tests.gpu.ranks import ExecutedPrompt, PlayedRank, execute_prompt, live, play_shard

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DEVICE: Device = "cuda"
PROMPT = [9, 30, 12, 77, 5, 200, 41, 8]
ONE_OR_TWO = [pytest.param(1, marks=pytest.mark.gpu(1)), pytest.param(2, marks=pytest.mark.gpu(2))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("llama"))


def make_config(folder: Path, **overrides: Any) -> EngineConfig:
    settings = {"dtype": "float32", "kv_cache_tokens": 1024, "num_threads": 1, **overrides}
    return EngineConfig(model_name="tiny", source=str(folder), device=DEVICE, **settings)


@pytest.mark.gpu(2)
def test_two_ranks_over_nccl_give_the_logits_of_the_whole_model(folder: Path) -> None:
    with RankWorld(play_shard, 2, (make_config(folder, tensor_parallel_size=2),)) as world:
        ranks: list[PlayedRank] = world.results()
        assert world.join() == [0, 0]
    reference = load_reference(folder)
    for rank in ranks:
        assert_played_like(reference, rank.sequences(), tolerance=1e-3)
        assert rank.backend == "nccl"
        assert (rank.local_rank, rank.num_visible_devices) == ("0", 1)
        assert rank.num_parameter_bytes < parameter_bytes(reference)


@pytest.mark.parametrize("size", ONE_OR_TWO)
async def test_a_replica_answers_greedily_as_transformers_does_and_ends_when_hung_up(
    size: int, folder: Path, tmp_path: Path
) -> None:
    socket_path = tmp_path / "rank0.sock"
    config = make_config(folder, tensor_parallel_size=size, max_num_seqs=4, max_num_batched_tokens=32)
    with RankWorld(live, size, (config, str(socket_path))) as world:
        await asyncio.to_thread(world.results)
        channel = await ReplicaChannel.connect(socket_path)
        requests = [greedy_request(str(index), prompt) for index, prompt in enumerate(PROMPTS)]
        found = await asyncio.wait_for(answers(channel, requests), 200)
        await channel.close()
        assert await asyncio.to_thread(world.join) == [0] * size
    assert found == {str(index): generated(folder, prompt) for index, prompt in enumerate(PROMPTS)}


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "block_size", "tolerance"),
    [("float32", 16, 1e-3), ("bfloat16", 16, 0.1), pytest.param("bfloat16", PAGE_TOKENS, 0.1, id="torch's kernel")],
)
def test_one_gpu_finds_a_prompt_as_likely_as_float32_on_cpu_does(
    dtype: str, block_size: int, tolerance: float, folder: Path
) -> None:
    config = make_config(folder, dtype=dtype, block_size=block_size)
    with RankWorld(execute_prompt, 1, (config, PROMPT)) as world:
        executed: ExecutedPrompt = world.results()[0]
        assert world.join() == [0]
    assert executed.sampled.error is None
    assert executed.num_device_bytes > 0
    found = executed.sampled.prompt_logprobs or []
    assert [each.token_id for each in found] == PROMPT[1:]
    assert [each.logprob for each in found] == pytest.approx(cpu_logprobs(folder, found), abs=tolerance)


@torch.inference_mode()
def cpu_logprobs(folder: Path, tokens: list[TokenLogprob]) -> list[float]:
    """What transformers says of the same tokens."""
    rows = load_reference(folder)(torch.tensor([PROMPT])).logits[0].log_softmax(-1)
    return [float(row[token.token_id]) for row, token in zip(rows, tokens, strict=False)]
