"""Tests that decodes replayed as CUDA graphs give what eager ones give, and take no more memory than is reserved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.config import EngineConfig
from engine.cuda.buckets import bucket_sizes
from engine.protocol import EngineRequest, SamplingParams
from engine.varlen_attention import PAGE_TOKENS
from scheduling.score import ScorePolicy, Stamp
from tests.engine.tiny_models import make_tiny_model
from tests.engine.worlds import RankWorld
from tests.gpu.ranks import ComparedDecodes, Generated, compare_decodes, generate_all

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ONE_OR_TWO = [pytest.param(1, marks=pytest.mark.gpu(1)), pytest.param(2, marks=pytest.mark.gpu(2))]
MAX_NUM_SEQS = 20
#: Of logits of a few units in bfloat16: the two may multiply in other orders.
TOLERANCE = 0.05
#: What the driver loads on its own account while graphs are recorded.
DRIVER_BYTES = 256 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads that torch's kernel takes, on two ranks as well."""
    return make_tiny_model(tmp_path_factory.mktemp("llama"), num_attention_heads=8, num_key_value_heads=2)


def make_config(folder: Path, **overrides: Any) -> EngineConfig:
    settings = {"max_num_seqs": MAX_NUM_SEQS, "kv_cache_tokens": 2 * MAX_NUM_SEQS * PAGE_TOKENS, **overrides}
    return EngineConfig("tiny", str(folder), device="cuda", block_size=PAGE_TOKENS, num_threads=1, **settings)


def compared(config: EngineConfig) -> list[ComparedDecodes]:
    with RankWorld(compare_decodes, config.tensor_parallel_size, (config,)) as world:
        return world.results()


@pytest.mark.parametrize("size", ONE_OR_TWO)
def test_every_number_of_rows_gives_replayed_what_it_gives_eagerly(size: int, folder: Path) -> None:
    for found in compared(make_config(folder, tensor_parallel_size=size)):
        assert found.num_graphs == len(bucket_sizes(MAX_NUM_SEQS))
        assert sorted(found.differences) == list(range(1, MAX_NUM_SEQS + 1))
        assert max(found.differences.values()) < TOLERANCE


@pytest.mark.gpu
def test_graphs_take_no_more_memory_than_is_reserved_for_them(folder: Path) -> None:
    (found,) = compared(make_config(folder, max_num_seqs=128, kv_cache_tokens=256 * PAGE_TOKENS))
    assert found.used_bytes <= found.reserved_bytes + DRIVER_BYTES


@pytest.mark.gpu
def test_nothing_is_recorded_where_it_is_switched_off(folder: Path) -> None:
    (found,) = compared(make_config(folder, cuda_graphs="off"))
    assert found.num_graphs == 0


def make_requests(num: int, **sampling: Any) -> list[EngineRequest]:
    """Prompts of several lengths; answers that end one after the other, so that rows leave the batch."""
    return [
        EngineRequest(
            lease_id=str(index),
            prompt_token_ids=[2 + (index * 31 + at * 7) % 280 for at in range(3 + 5 * index)],
            sampling=SamplingParams(max_tokens=8 + 3 * index, seed=index, ignore_eos=True, **sampling),
            stamp=Stamp(0, float(index)),
            policy=ScorePolicy(),
        )
        for index in range(num)
    ]


def generated(config: EngineConfig, requests: list[EngineRequest]) -> Generated:
    with RankWorld(generate_all, config.tensor_parallel_size, (config, requests)) as world:
        _, found = world._results.get(timeout=200)
        assert isinstance(found, Generated)
        assert world.join() == [0] * config.tensor_parallel_size
        return found


@pytest.mark.parametrize("size", ONE_OR_TWO)
@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"temperature": 0.8, "top_k": 20, "top_p": 0.9}])
def test_answers_are_the_same_with_graphs_and_without(size: int, sampling: dict[str, float], folder: Path) -> None:
    """In bfloat16 rounding may turn a close choice, and then all that follows; nearly all must agree."""
    config = make_config(folder, tensor_parallel_size=size)
    requests = make_requests(12, **sampling)
    replayed = generated(config, requests).token_ids
    eager = generated(make_config(folder, tensor_parallel_size=size, cuda_graphs="off"), requests).token_ids
    assert {lease: len(tokens) for lease, tokens in replayed.items()} == {
        request.lease_id: request.sampling.max_tokens for request in requests
    }
    same = [replayed[lease] == eager[lease] for lease in eager]
    assert sum(same) >= 0.75 * len(same)


@pytest.mark.gpu
def test_preempted_sequences_are_answered_in_full(folder: Path) -> None:
    """A cache of three blocks for four sequences that each come to need two."""
    config = make_config(folder, max_num_seqs=4, kv_cache_tokens=3 * PAGE_TOKENS, max_model_len=2 * PAGE_TOKENS)
    prompt = [2 + at % 280 for at in range(PAGE_TOKENS - 4)]
    requests = [
        EngineRequest(
            str(index),
            [2 + index, *prompt],
            SamplingParams(max_tokens=40, seed=0, temperature=0.0, ignore_eos=True),
            Stamp(index, 0.0),
            ScorePolicy(),
        )
        for index in range(4)
    ]
    found = generated(config, requests)
    assert [len(found.token_ids[str(index)]) for index in range(4)] == [40] * 4
    assert found.num_preemptions > 0
