"""Owns the description of a decoder that the native program is compiled from. Knows no family, no rank, no arithmetic.

Weights are this rank's own part, as AutoTP has cut them: [outputs, inputs].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.fused.instructions import Activation


@dataclass(frozen=True, slots=True)
class Norm:
    """weight, bias: float32, [width]; None where there is none. layer_norm: about the mean, else root mean square."""

    weight: torch.Tensor | None
    bias: torch.Tensor | None
    epsilon: float
    layer_norm: bool


@dataclass(frozen=True, slots=True)
class Projection:
    """x @ weight.T + bias. weight: [outputs, inputs]; bias: [outputs], None where there is none on this rank."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Rotary:
    """cosines, sines: float32, [positions, dim / 2]. A pair is an element of each half."""

    cosines: torch.Tensor
    sines: torch.Tensor

    @property
    def dim(self) -> int:
        return 2 * self.cosines.shape[1]


@dataclass(frozen=True, slots=True)
class Attention:
    query: Projection
    key: Projection
    value: Projection
    output: Projection
    head_dim: int
    rotary: Rotary
    scaling: float
    softcap: float | None = None
    window: int | None = None
    query_norm: Norm | None = None
    key_norm: Norm | None = None

    @property
    def num_heads(self) -> int:
        return self.query.weight.shape[0] // self.head_dim

    @property
    def num_kv_heads(self) -> int:
        return self.key.weight.shape[0] // self.head_dim


@dataclass(frozen=True, slots=True)
class MLP:
    """down(activation(gate(x)) * up(x)), or down(activation(up(x))) without a gate."""

    up: Projection
    down: Projection
    activation: Activation
    gate: Projection | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """mlp_norm None: the MLP reads what the attention reads, and both are added to the residual together."""

    input_norm: Norm
    attention: Attention
    mlp: MLP
    mlp_norm: Norm | None
    attention_output_norm: Norm | None = None
    mlp_output_norm: Norm | None = None

    @property
    def projections(self) -> list[Projection]:
        attention, mlp = self.attention, self.mlp
        given = [attention.query, attention.key, attention.value, attention.output, mlp.gate, mlp.up, mlp.down]
        return [projection for projection in given if projection is not None]


@dataclass(frozen=True, slots=True)
class Decoder:
    """head_is_split: a rank's head reads its own hidden features, from `head_offset` on, and the ranks sum logits."""

    embedding: torch.Tensor
    layers: tuple[Layer, ...]
    final_norm: Norm
    head: Projection
    head_is_split: bool = False
    head_offset: int = 0
    embedding_scale: float = 1.0
    logits_softcap: float | None = None

    @property
    def hidden_size(self) -> int:
        return self.embedding.shape[1]

    @property
    def vocab_size(self) -> int:
        return self.head.weight.shape[0]
