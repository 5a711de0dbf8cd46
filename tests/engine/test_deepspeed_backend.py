"""Tests the default backend at one rank: what it offers, what each chunk gets, and what it refuses to load."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.architectures import UnsupportedModel
from engine.backends.deepspeed import DeepSpeedEngine, load_rank
from engine.backends.fake import FakeEngine
from engine.checkpoint import ModelNotFound
from engine.config import EngineConfig
from engine.fused.cache import PackedKVCache
from engine.kv_cache import KVCache
from tests.engine.chunks import make_chunk
from tests.engine.playing import load_reference
from tests.engine.tiny_models import VOCAB_SIZE, make_tiny_model
from tests.engine.worlds import free_port

PROMPT = [9, 30, 12, 77, 5, 200, 41, 8]


def make_config(source: Path | str, **overrides: Any) -> EngineConfig:
    settings = {"dtype": "float32", "kv_cache_tokens": 390, "num_threads": 1, **overrides}
    return EngineConfig(model_name="tiny", source=str(source), **settings)


@pytest.fixture(scope="module")
def folder(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[DeepSpeedEngine]:
    """One rank, in this process: its environment and its group are taken back afterwards."""
    environment = dict(os.environ)
    engine = DeepSpeedEngine(load_rank(make_config(folder), 0, "127.0.0.1", free_port()))
    yield engine
    engine.close()
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(scope="module")
def logprobs(folder: Path) -> torch.Tensor:
    """transformers' own, [len(PROMPT), vocab]."""
    with torch.inference_mode():
        found: torch.Tensor = load_reference(folder)(torch.tensor([PROMPT])).logits[0].log_softmax(-1)
    return found


def spoil(cache: KVCache | PackedKVCache, block: int) -> None:
    """Fills what the first layer keeps in one block, or its keys, with NaN."""
    kept = cache.layers[0] if isinstance(cache, PackedKVCache) else cache.layers[0].keys
    kept[block] = float("nan")


def test_the_capacity_is_the_checkpoints_and_the_caches(engine: DeepSpeedEngine, folder: Path) -> None:
    capacity = engine.capacity()
    assert (capacity.vocab_size, capacity.eos_token_ids) == (VOCAB_SIZE, [1])
    assert (capacity.num_blocks, capacity.block_size) == (25, 16)  # 390 tokens in whole blocks
    assert capacity.max_model_len == 400  # the checkpoint's 512 do not fit the cache
    assert capacity.model_bytes == [sum(p.nbytes for p in load_reference(folder).parameters())]


def test_the_fake_engine_offers_what_this_one_does_for_the_same_settings(engine: DeepSpeedEngine, folder: Path) -> None:
    real, fake = engine.capacity(), FakeEngine(make_config(folder, max_model_len=512)).capacity()
    assert (fake.num_blocks, fake.max_model_len) == (real.num_blocks, real.max_model_len)


def test_each_sampling_chunk_gets_its_token_in_the_callers_order(
    engine: DeepSpeedEngine, logprobs: torch.Tensor
) -> None:
    chunks = [
        make_chunk("whole", PROMPT, block_table=[3]),
        make_chunk("unfinished", PROMPT, block_table=[4], samples=False),
        make_chunk("single", PROMPT[:1], block_table=[5]),
    ]
    results = engine.execute(chunks)
    best = logprobs.argmax(-1).tolist()
    assert [(result.seq_id, result.token_id) for result in results] == [("whole", best[-1]), ("single", best[0])]


def test_prompt_logprobs_are_those_of_transformers_over_two_chunks(
    engine: DeepSpeedEngine, logprobs: torch.Tensor
) -> None:
    parts = {"prompt_logprobs": 2, "history": PROMPT, "num_prompt_tokens": len(PROMPT), "block_table": [7]}
    (first,) = engine.execute([make_chunk("a", PROMPT[:5], samples=False, **parts)])
    (last,) = engine.execute([make_chunk("a", PROMPT[5:], start=5, **parts)])
    assert first.token_id is None
    assert last.token_id == int(logprobs[-1].argmax())
    assert first.prompt_logprobs is not None
    assert last.prompt_logprobs is not None
    found = [*first.prompt_logprobs, *last.prompt_logprobs]
    assert [each.token_id for each in found] == PROMPT[1:]
    for row, each in zip(logprobs, found, strict=False):
        assert math.isclose(each.logprob, float(row[each.token_id]), abs_tol=1e-4)
        assert [token_id for token_id, _ in each.top] == row.topk(2).indices.tolist()


def test_a_sequence_whose_logits_are_not_numbers_fails_alone(engine: DeepSpeedEngine, logprobs: torch.Tensor) -> None:
    engine.execute([make_chunk(seq_id, PROMPT[:7], block_table=[block]) for seq_id, block in (("bad", 8), ("good", 9))])
    spoil(engine._loaded.runner.cache, 8)
    last = {"start": 7, "history": PROMPT}
    bad, good = engine.execute(
        [
            make_chunk("bad", PROMPT[7:], block_table=[8], **last),
            make_chunk("good", PROMPT[7:], block_table=[9], **last),
        ]
    )
    assert bad.token_id is None
    assert bad.error is not None
    assert good.token_id == int(logprobs[-1].argmax())


def test_nothing_to_do_gives_nothing(engine: DeepSpeedEngine) -> None:
    assert engine.execute([]) == []


@pytest.mark.parametrize(
    ("settings", "error", "reason"),
    [
        ({"source": "nobody knows"}, ModelNotFound, "expected a directory, a hub id"),
        ({"tensor_parallel_size": 4}, UnsupportedModel, "at most its 3 key-value heads"),
    ],
)
def test_what_cannot_be_served_is_refused_before_any_rank_is_waited_for(
    settings: dict[str, Any], error: type[Exception], reason: str, folder: Path
) -> None:
    with pytest.raises(error, match=reason):
        load_rank(make_config(**{"source": folder, **settings}), 0, "127.0.0.1", 1)


def test_a_model_that_cannot_be_split_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path, "gpt2", n_embd=48, n_head=6, n_layer=1)
    with pytest.raises(UnsupportedModel, match="tensor_parallel_size 2: AutoTP does not know its fused projections"):
        load_rank(make_config(folder, tensor_parallel_size=2), 0, "127.0.0.1", 1)
