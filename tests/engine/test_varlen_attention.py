"""Tests what torch's variable-length kernel is given, by a plain function of the same meaning, and when it is used."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import runner
from engine.attention import AttentionStep, PagedStep
from engine.kv_cache import KVCache, LayerShape
from engine.paged_batch import PagedBatch
from engine.varlen_attention import (
    VarlenStep,
    can_use_varlen,
    varlen_kernel,
    warn_if_gathering,
    without_splits,
)
from tests.engine.playing import CPU, assert_played_like, load_reference, make_played, make_runner, play

CUDA = torch.device("cuda")
SHAPE = LayerShape(num_kv_heads=2, key_dim=64, value_dim=64)


def plain_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    **settings: Any,
) -> torch.Tensor:
    """The documented meaning of `varlen_attn` with a block table, one sequence after the other."""
    left, right = settings["window_size"]
    assert right == 0 or (max_q, left, right) == (1, -1, -1)  # a single query has nothing to its right
    assert_lengths(cu_seq_q, max_q)
    assert_lengths(cu_seq_k, max_k)
    assert cu_seq_k.diff().tolist() == settings["seqused_k"].tolist()
    outputs = []
    for i, num_keys in enumerate(settings["seqused_k"].tolist()):
        queries = query[cu_seq_q[i] : cu_seq_q[i + 1]].transpose(0, 1)
        keys, values = (t[settings["block_table"][i]].flatten(0, 1)[:num_keys].transpose(0, 1) for t in (key, value))
        at = torch.arange(num_keys - queries.shape[1], num_keys)[:, None]
        seen = torch.arange(num_keys)[None, :]
        mask = (seen <= at) & (seen >= at - (left if left >= 0 else num_keys))
        outputs.append(
            torch.nn.functional.scaled_dot_product_attention(
                queries, keys, values, attn_mask=mask, scale=settings["scale"], enable_gqa=settings["enable_gqa"]
            ).transpose(0, 1)
        )
    return torch.cat(outputs)


def assert_lengths(cumulative: torch.Tensor, longest: int) -> None:
    """What the kernel demands of running sums of lengths: int32, from 0, none longer than what is named beside them."""
    assert (cumulative.dtype, int(cumulative[0])) == (torch.int32, 0)
    assert int(cumulative.diff().max()) <= longest


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2"])
def test_the_kernels_arguments_mean_the_same_attention(
    family: str, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_plain_varlen(cache: KVCache, batch: PagedBatch) -> AttentionStep:
        return VarlenStep(PagedStep(cache, batch), plain_varlen)

    monkeypatch.setattr(runner, "attention_step", with_plain_varlen)
    sequences = make_played([1, 9, 33, 70])
    play(make_runner(tiny_model(family)).run, sequences)
    assert_played_like(load_reference(tiny_model(family)), sequences)


def test_the_kernel_is_used_on_cuda_with_whole_pages() -> None:
    assert can_use_varlen(CUDA, torch.bfloat16, 256, [SHAPE])


@pytest.mark.parametrize(
    ("device", "dtype", "block_size", "shape"),
    [
        (CPU, torch.bfloat16, 256, SHAPE),
        (CUDA, torch.float32, 256, SHAPE),
        (CUDA, torch.bfloat16, 16, SHAPE),
        (CUDA, torch.bfloat16, 256, replace(SHAPE, value_dim=32)),
        (CUDA, torch.bfloat16, 256, replace(SHAPE, key_dim=512, value_dim=512)),
    ],
)
def test_what_the_kernel_cannot_do_goes_the_plain_way(
    device: torch.device, dtype: torch.dtype, block_size: int, shape: LayerShape
) -> None:
    assert not can_use_varlen(device, dtype, block_size, [SHAPE, shape])


@pytest.mark.parametrize(
    ("dtype", "block_size", "shape", "reason"),
    [
        (torch.float32, 256, SHAPE, "dtype float16 or bfloat16, got float32"),
        (torch.bfloat16, 16, SHAPE, "block_size in multiples of 256, got 16"),
        (torch.bfloat16, 256, replace(SHAPE, value_dim=32), "got keys of 64 and values of 32"),
    ],
)
def test_a_gpu_without_the_kernel_is_warned_of_with_the_reason(
    dtype: torch.dtype, block_size: int, shape: LayerShape, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    warn_if_gathering(CUDA, dtype, block_size, [SHAPE, shape])
    assert [reason in message for message in caplog.messages] == [True]


def test_nobody_is_warned_where_the_kernel_is_used_or_where_there_is_no_gpu(caplog: pytest.LogCaptureFixture) -> None:
    warn_if_gathering(CUDA, torch.bfloat16, 256, [SHAPE])
    warn_if_gathering(CPU, torch.float32, 16, [SHAPE])
    assert caplog.messages == []


def test_the_kernel_is_told_not_to_split_where_it_can_be_told() -> None:
    def splitting(*, num_splits: int | None = None) -> int | None:
        return num_splits

    def plain() -> None: ...

    kernel: Any = without_splits(splitting)  # type: ignore[arg-type]
    assert kernel() == 1
    assert without_splits(plain) is plain  # type: ignore[arg-type, comparison-overlap]


def test_the_installed_kernel_has_all_the_arguments_that_it_is_given() -> None:
    settings = {"scale": 1.0, "window_size": (-1, 0), "enable_gqa": True, "seqused_k": None, "block_table": None}
    inspect.signature(varlen_kernel()).bind(*[None] * 7, **settings)
