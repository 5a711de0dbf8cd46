"""Owns how projections become the matrices that the native program reads. Knows no operation and no layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from engine.fused.blueprint import MLP, Attention, Projection
from engine.fused.library import NativeLibrary
from engine.fused.pages import LargePages, give_back

PANEL = 32


def padded(width: int) -> int:
    """Whole panels, and at least one: AutoTP may leave a rank nothing of a small layer."""
    return max(1, -(-width // PANEL)) * PANEL


@dataclass(frozen=True, slots=True)
class Placed:
    """A projection in a matrix with others: its outputs lie from `first_output` on, in every `panel_step`-th panel."""

    projection: Projection
    first_output: int = 0
    panel_step: int = 1

    @property
    def outputs(self) -> torch.Tensor:
        """[outputs]: where each lies."""
        own = torch.arange(self.projection.weight.shape[0])
        return self.first_output + own // PANEL * PANEL * self.panel_step + own % PANEL


@dataclass(frozen=True, slots=True)
class Matrix:
    """Projections of the same inputs that are computed as one. width: of all outputs, with gaps."""

    parts: Sequence[Placed]
    width: int

    @property
    def num_inputs(self) -> int:
        return self.parts[0].projection.weight.shape[1]


@dataclass(frozen=True, slots=True)
class Packed:
    """weight: [padded outputs, padded inputs], as `native/linear.h` has it. bias: float32, [padded outputs]."""

    weight: torch.Tensor
    bias: torch.Tensor | None


def alone(projection: Projection) -> Matrix:
    return Matrix([Placed(projection)], projection.weight.shape[0])


def joined(attention: Attention) -> Matrix:
    """Queries, keys and values, one after another."""
    parts, width = [], 0
    for projection in (attention.query, attention.key, attention.value):
        parts.append(Placed(projection, width))
        width += projection.weight.shape[0]
    return Matrix(parts, width)


def gated(mlp: MLP) -> Matrix:
    """A panel of the gate, then the same outputs of up, in turn."""
    assert mlp.gate is not None
    assert (mlp.gate.bias is None) == (mlp.up.bias is None), "a gate and its other half have biases both or neither"
    return Matrix([Placed(mlp.gate, 0, 2), Placed(mlp.up, PANEL, 2)], 2 * padded(mlp.up.weight.shape[0]))


class Packer:
    """Packs matrix after matrix into large pages."""

    def __init__(self, library: NativeLibrary) -> None:
        self._library = library
        self._pages = LargePages()

    def pack(self, matrix: Matrix) -> Packed:
        n, k = padded(matrix.width), padded(matrix.num_inputs)
        weight = self._pages.zeros((n, k), self._library.dtype)
        for part in matrix.parts:
            self._library.pack(part.projection.weight, weight, part.first_output, part.panel_step)
        return Packed(weight, _bias(matrix.parts, n))


def _bias(parts: Iterable[Placed], num_outputs: int) -> torch.Tensor | None:
    given = [(part.outputs, part.projection.bias) for part in parts if part.projection.bias is not None]
    if not given:
        return None
    bias = torch.zeros(num_outputs)
    for outputs, values in given:
        bias[outputs] = values.float()
    return bias


def release(projections: Iterable[Projection]) -> None:
    """Gives the memory of weights back that have been packed; they must not be used again."""
    for projection in projections:
        if projection.weight.is_contiguous():
            give_back(projection.weight)
