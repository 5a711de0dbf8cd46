"""Tests where the outputs of joined projections lie in a packed matrix."""

from __future__ import annotations

import pytest
import torch

from engine.fused.blueprint import MLP, Attention, Projection, Rotary
from engine.fused.instructions import Activation
from engine.fused.library import load_library
from engine.fused.packing import PANEL, Matrix, Packer, alone, gated, joined, release
from tests.engine.native import needs_native

pytestmark = needs_native

ROTARY = Rotary(torch.zeros(1, 8), torch.zeros(1, 8))


def make_projection(num_outputs: int, num_inputs: int = 48, *, bias: bool = False) -> Projection:
    return Projection(torch.randn(num_outputs, num_inputs), torch.randn(num_outputs) if bias else None)


def unpacked(matrix: Matrix, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
    """[padded outputs, padded inputs] by output, and the bias."""
    packed = Packer(load_library(dtype, 2)).pack(matrix)
    n, k = packed.weight.shape
    per_word = 4 // dtype.itemsize
    panels = packed.weight.view(n // PANEL, k // per_word, PANEL, per_word)
    return panels.permute(0, 2, 1, 3).reshape(n, k), packed.bias


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("num_outputs", "num_inputs"), [(64, 64), (70, 48), (33, 45), (1, 1)])
def test_a_projection_is_padded_with_zeros(num_outputs: int, num_inputs: int, dtype: torch.dtype) -> None:
    projection = make_projection(num_outputs, num_inputs, bias=True)
    weight, bias = unpacked(alone(projection), dtype)
    assert projection.bias is not None
    assert bias is not None
    assert torch.equal(weight[:num_outputs, :num_inputs], projection.weight.to(dtype))
    assert not weight[num_outputs:].any()
    assert not weight[:, num_inputs:].any()
    assert torch.equal(bias[:num_outputs], projection.bias)
    assert not bias[num_outputs:].any()


def test_queries_keys_and_values_follow_one_another_wherever_panels_end() -> None:
    """Three heads of 16 end in the middle of a panel."""
    query, key, value = make_projection(48), make_projection(16, bias=True), make_projection(16)
    attention = Attention(query, key, value, make_projection(48), 16, ROTARY, 1.0)
    weight, bias = unpacked(joined(attention), torch.float32)
    expected = torch.cat([query.weight, key.weight, value.weight])
    assert torch.equal(weight[:80, :48], expected)
    assert key.bias is not None
    assert bias is not None
    assert torch.equal(bias[48:64], key.bias)
    assert not bias[:48].any()
    assert not bias[64:].any()


def test_gate_and_up_take_turns_by_the_panel() -> None:
    gate, up = make_projection(70, bias=True), make_projection(70, bias=True)
    mlp = MLP(up, make_projection(48), Activation.SILU, gate)
    weight, bias = unpacked(gated(mlp), torch.float32)
    assert bias is not None
    for part, first in ((gate, 0), (up, PANEL)):
        rows = torch.cat([torch.arange(start, start + PANEL) for start in range(first, len(weight), 2 * PANEL)])
        assert part.bias is not None
        assert torch.equal(weight[rows][:70, :48], part.weight)
        assert not weight[rows][70:].any()
        assert torch.equal(bias[rows][:70], part.bias)
        assert not bias[rows][70:].any()


def test_released_weights_cost_nothing_any_more() -> None:
    projection = make_projection(256, 256)
    release([projection])
    assert (projection.weight == 0).float().mean() > 0.9, "anonymous pages come back as zeros; the two ends may stay"
