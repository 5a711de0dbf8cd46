"""Compiles a blueprint into programs: the steps between two all-reduces, over buffers that are allocated once.

Knows no family. Between two programs whoever runs them sums over the ranks; at one rank there is one program.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from enum import Enum, auto

import torch

from engine.fused.blueprint import MLP, Attention, Decoder, Layer, Norm, Projection
from engine.fused.cache import PackedKVCache
from engine.fused.instructions import LAYER_NORM, WANTED_ROWS, Epilogue, Kind, Op
from engine.fused.library import NativeLibrary
from engine.fused.packing import PANEL, Matrix, Packer, alone, gated, joined, padded, release


class Summed(Enum):
    """What has to be summed over the ranks after a stage: `CompiledDecoder.partial`, a row for each token of the step,
    or its `logits`, a row for each that is wanted."""

    NOTHING = auto()
    PARTIAL = auto()
    LOGITS = auto()


@dataclass(frozen=True, slots=True)
class Stage:
    """A program, and what comes after it."""

    ops: ctypes.Array[Op]
    summed: Summed


@dataclass(frozen=True, slots=True)
class CompiledDecoder:
    """stages run in order. held: what the programs point to.

    partial: float32, [most tokens, padded hidden size], what a rank adds to the residual.
    logits: float32, [most tokens, padded vocabulary], of the wanted rows after the last stage.
    """

    stages: list[Stage]
    partial: torch.Tensor
    logits: torch.Tensor
    held: list[torch.Tensor]


def compile_decoder(
    decoder: Decoder, cache: PackedKVCache, library: NativeLibrary, max_tokens: int, num_ranks: int
) -> CompiledDecoder:
    """Packs the weights and lays the operations out. max_tokens: of one step.

    The decoder's projections give their memory up, layer by layer, and must not be used again.
    """
    return _Compiler(decoder, cache, library, Packer(library), max_tokens, num_ranks > 1).compile()


@dataclass(slots=True)
class _Compiler:
    decoder: Decoder
    cache: PackedKVCache
    library: NativeLibrary
    packer: Packer
    max_tokens: int
    is_split: bool
    stages: list[Stage] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    held: list[torch.Tensor] = field(default_factory=list)
    shared: dict[str, torch.Tensor] = field(default_factory=dict)

    def compile(self) -> CompiledDecoder:
        decoder, hidden = self.decoder, padded(self.decoder.hidden_size)
        residual = self._buffer(hidden, torch.float32)
        partial = self._buffer(hidden, torch.float32)
        normed = self._buffer(hidden + PANEL, self.library.dtype)  # one panel more: a split head reads past its part
        logits = self._buffer(padded(decoder.vocab_size), torch.float32)
        room = _Room(residual, partial, normed)
        self._embed(residual)
        for layer, layer_cache in zip(decoder.layers, self.cache.layers, strict=True):
            self._layer(layer, layer_cache, room)
            release(layer.projections)
        self._norm(decoder.final_norm, residual, normed, flags=WANTED_ROWS)
        self._head(normed, logits)
        if decoder.head.weight.data_ptr() != decoder.embedding.data_ptr():  # else tied: the table is read as it is
            release([decoder.head])
        return CompiledDecoder(self.stages, partial, logits, self.held)

    def _layer(self, layer: Layer, layer_cache: torch.Tensor, room: _Room) -> None:
        self._norm(layer.input_norm, room.residual, room.normed)
        attended = self._attend(layer.attention, layer_cache, room.normed)
        if layer.mlp_norm is not None:
            self._contribute(layer.attention.output, attended, layer.attention_output_norm, room)
            self._norm(layer.mlp_norm, room.residual, room.normed)
            self._contribute(layer.mlp.down, self._activated(layer.mlp, room.normed), layer.mlp_output_norm, room)
        else:
            activated = self._activated(layer.mlp, room.normed)
            self._contribute_both(layer, attended, activated, room)

    def _contribute(self, projection: Projection, source: torch.Tensor, norm: Norm | None, room: _Room) -> None:
        """Adds the projection of `source`, of all ranks and normed where the model does that, to the residual."""
        if not self.is_split and norm is None:
            self._linear(alone(projection), source, room.residual, Epilogue.ACCUMULATE)
            return
        self._linear(alone(projection), source, room.partial, Epilogue.STORE)
        self._sum_over_ranks()
        self._add(norm, room)

    def _contribute_both(self, layer: Layer, attended: torch.Tensor, activated: torch.Tensor, room: _Room) -> None:
        """The attention's and the MLP's part at once: one sum over the ranks instead of two."""
        target = room.partial if self.is_split else room.residual
        first = Epilogue.STORE if self.is_split else Epilogue.ACCUMULATE
        self._linear(alone(layer.attention.output), attended, target, first)
        self._linear(alone(layer.mlp.down), activated, target, Epilogue.ACCUMULATE)
        if self.is_split:
            self._sum_over_ranks()
            self._add(None, room)

    def _sum_over_ranks(self) -> None:
        if self.is_split:
            self._end_stage(Summed.PARTIAL)

    def _end_stage(self, summed: Summed) -> None:
        self.stages.append(Stage((Op * len(self.ops))(*self.ops), summed))
        self.ops = []

    def _head(self, normed: torch.Tensor, logits: torch.Tensor) -> None:
        decoder = self.decoder
        is_split = decoder.head_is_split
        softcap = decoder.logits_softcap or 0.0
        source = normed[:, decoder.head_offset :]
        own_cap = 0.0 if is_split else softcap  # not linear: of a split head it has to wait for the sum
        self._linear(alone(decoder.head), source, logits, Epilogue.STORE, flags=WANTED_ROWS, softcap=own_cap)
        self._end_stage(Summed.LOGITS if is_split else Summed.NOTHING)
        if is_split and softcap:
            width = logits.shape[1]
            self.ops.append(Op(kind=Kind.CAP, flags=WANTED_ROWS, width=width, softcap=softcap, **_target(logits)))
            self._end_stage(Summed.NOTHING)

    def _embed(self, residual: torch.Tensor) -> None:
        table = self._hold(self.decoder.embedding.to(self.library.dtype).contiguous())
        self.ops.append(
            Op(
                kind=Kind.EMBED,
                weight=table.data_ptr(),
                width=self.decoder.hidden_size,
                scale=self.decoder.embedding_scale,
                **_target(residual),
            )
        )

    def _norm(self, norm: Norm, source: torch.Tensor, target: torch.Tensor, flags: int = 0) -> None:
        self.ops.append(Op(kind=Kind.NORM, **self._norm_fields(norm, flags), **_source(source), **_target(target)))

    def _add(self, norm: Norm | None, room: _Room) -> None:
        ends = {**_source(room.partial), **_target(room.residual)}
        if norm is None:
            self.ops.append(Op(kind=Kind.ADD, width=self.decoder.hidden_size, **ends))
        else:
            self.ops.append(Op(kind=Kind.NORM_ADD, **self._norm_fields(norm), **ends))

    def _norm_fields(self, norm: Norm, flags: int = 0) -> dict[str, float | int | None]:
        return {
            "flags": flags | (LAYER_NORM if norm.layer_norm else 0),
            "weight": self._floats(norm.weight),
            "bias": self._floats(norm.bias),
            "epsilon": norm.epsilon,
            "width": self.decoder.hidden_size,
        }

    def _attend(self, attention: Attention, cache: torch.Tensor, normed: torch.Tensor) -> torch.Tensor:
        """[most tokens, heads * head_dim], of this rank's heads."""
        num_heads, num_kv_heads, dim = attention.num_heads, attention.num_kv_heads, attention.head_dim
        projected = self._shared_buffer("projected", padded((num_heads + 2 * num_kv_heads) * dim), torch.float32)
        queries = self._shared_buffer("queries", num_heads * dim, self.library.dtype)
        attended = self._shared_buffer("attended", padded(num_heads * dim), self.library.dtype)
        heads = {"num_heads": num_heads, "num_kv_heads": num_kv_heads, "head_dim": dim, "cache": cache.data_ptr()}
        self._linear(joined(attention), normed, projected, Epilogue.STORE)
        self._rotate_write(attention, projected, queries, heads)
        self.ops.append(
            Op(
                kind=Kind.ATTEND,
                scale=attention.scaling,
                softcap=attention.softcap or 0.0,
                window=attention.window or 0,
                **_source(queries),
                **_target(attended),
                **heads,
            )
        )
        return attended

    def _rotate_write(
        self, attention: Attention, projected: torch.Tensor, queries: torch.Tensor, heads: dict[str, int]
    ) -> None:
        query_norm, key_norm = attention.query_norm, attention.key_norm
        self.ops.append(
            Op(
                kind=Kind.ROTATE_WRITE,
                queries=queries.data_ptr(),
                query_norm=self._floats(query_norm.weight) if query_norm else None,
                key_norm=self._floats(key_norm.weight) if key_norm else None,
                epsilon=query_norm.epsilon if query_norm else 0.0,
                cosines=self._floats(attention.rotary.cosines),
                sines=self._floats(attention.rotary.sines),
                rotary_dim=attention.rotary.dim,
                **_source(projected),
                **heads,
            )
        )

    def _activated(self, mlp: MLP, normed: torch.Tensor) -> torch.Tensor:
        """[most tokens, intermediate size], of this rank's part."""
        width = padded(mlp.up.weight.shape[0])
        activated = self._shared_buffer("activated", width, self.library.dtype)
        matrix, epilogue = (alone(mlp.up), Epilogue.ACTIVATE) if mlp.gate is None else (gated(mlp), Epilogue.GATE)
        self._linear(matrix, normed, activated, epilogue, activation=mlp.activation)
        return activated

    def _linear(
        self, matrix: Matrix, source: torch.Tensor, target: torch.Tensor, epilogue: Epilogue, **fields: float
    ) -> None:
        packed = self.packer.pack(matrix)
        n, k = self._hold(packed.weight).shape
        self.ops.append(
            Op(
                kind=Kind.LINEAR,
                epilogue=epilogue,
                weight=packed.weight.data_ptr(),
                bias=self._floats(packed.bias),
                n=n,
                k=k,
                **fields,
                **_source(source),
                **_target(target),
            )
        )

    def _floats(self, values: torch.Tensor | None) -> int | None:
        return None if values is None else self._hold(values.float().contiguous()).data_ptr()

    def _hold(self, tensor: torch.Tensor) -> torch.Tensor:
        self.held.append(tensor)
        return tensor

    def _buffer(self, width: int, dtype: torch.dtype) -> torch.Tensor:
        return self._hold(torch.zeros((self.max_tokens, width), dtype=dtype))

    def _shared_buffer(self, name: str, width: int, dtype: torch.dtype) -> torch.Tensor:
        """One buffer for all layers."""
        if name not in self.shared:
            self.shared[name] = self._buffer(width, dtype)
        assert self.shared[name].shape[1] == width, f"{name}: layers of different widths"
        return self.shared[name]


@dataclass(frozen=True, slots=True)
class _Room:
    """residual, partial: float32, [most tokens, padded hidden size]. normed: what the projections read."""

    residual: torch.Tensor
    partial: torch.Tensor
    normed: torch.Tensor


def _source(tensor: torch.Tensor) -> dict[str, int]:
    return {"source": tensor.data_ptr(), "source_stride": tensor.stride(0)}


def _target(tensor: torch.Tensor) -> dict[str, int]:
    return {"target": tensor.data_ptr(), "target_stride": tensor.stride(0)}
