"""Reads a loaded, split model into a blueprint, family by family. Knows nothing of programs or of the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from engine.fused.blueprint import MLP, Attention, Decoder, Layer, Norm, Projection, Rotary
from engine.fused.instructions import Activation

_ACTIVATIONS = {
    "silu": Activation.SILU,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "gelu_new": Activation.GELU_TANH,
    "gelu": Activation.GELU,
    "relu": Activation.RELU,
}


class NotFusable(Exception):
    """The native program cannot compute this model; the plain modules do. The message says why, for the log."""


def read_decoder(model: PreTrainedModel, rank: int, max_model_len: int) -> Decoder:
    """The blueprint of this rank's part.

    Raises:
        NotFusable: the family is not known here, or this checkpoint of it has something that is not.
    """
    read = _FAMILIES.get(model.config.model_type)
    if read is None:
        raise NotFusable(f"{model.config.model_type}: no blueprint; there is one for {', '.join(sorted(_FAMILIES))}")
    return read(_Reader(model, rank, max_model_len))


class _Reader:
    """What the families' readers share."""

    def __init__(self, model: PreTrainedModel, rank: int, max_model_len: int) -> None:
        self.model, self.config, self.decoder = model, model.config, model.model
        self._is_first = rank == 0
        self.rotary = _rotary(self.decoder.rotary_emb, max_model_len)

    def rows(self, module: Any) -> Projection:
        """A projection whose outputs the ranks share out."""
        return Projection(module.weight.detach(), None if module.bias is None else module.bias.detach())

    def columns(self, module: Any) -> Projection:
        """One whose inputs they share out: the sum over the ranks has the bias of one."""
        projection = self.rows(module)
        return projection if self._is_first else Projection(projection.weight)

    def activation(self, name: str) -> Activation:
        if name not in _ACTIVATIONS:
            raise NotFusable(f"{self.config.model_type}: activation {name!r}; expected one of {sorted(_ACTIVATIONS)}")
        return _ACTIVATIONS[name]

    def attention(self, module: Any, output: Any, softcap: float | None = None) -> Attention:
        return Attention(
            query=self.rows(module.q_proj),
            key=self.rows(module.k_proj),
            value=self.rows(module.v_proj),
            output=self.columns(output),
            head_dim=module.head_dim,
            rotary=self.rotary,
            scaling=module.scaling,
            softcap=softcap,
            window=getattr(module, "sliding_window", None),
            query_norm=_optional_norm(module, "q_norm"),
            key_norm=_optional_norm(module, "k_norm"),
        )

    def gated_mlp(self, module: Any, activation: str) -> MLP:
        return MLP(
            up=self.rows(module.up_proj),
            down=self.columns(module.down_proj),
            activation=self.activation(activation),
            gate=self.rows(module.gate_proj),
        )

    def whole(self, layers: list[Layer], final_norm: Norm, **changes: Any) -> Decoder:
        head = self.model.lm_head
        parts: list[int] = getattr(head, "_partition_sizes", None) or []
        is_split = len(parts) > 1  # alike on all ranks, even where one of them has nothing of it
        return Decoder(
            embedding=self.decoder.embed_tokens.weight.detach(),
            layers=tuple(layers),
            final_norm=final_norm,
            head=self.columns(head) if is_split else self.rows(head),
            head_is_split=is_split,
            head_offset=sum(parts[: head.tp_index]) if is_split else 0,
            **changes,
        )


def _llama(read: _Reader) -> Decoder:
    """Llama and those that differ from it in biases, norms of queries and keys, and windows."""
    layers = [
        Layer(
            input_norm=rms_norm(layer.input_layernorm),
            attention=_with_window(read, read.attention(layer.self_attn, layer.self_attn.o_proj)),
            mlp=read.gated_mlp(layer.mlp, read.config.hidden_act),
            mlp_norm=rms_norm(layer.post_attention_layernorm),
        )
        for layer in read.decoder.layers
    ]
    return read.whole(layers, rms_norm(read.decoder.norm))


def _gemma2(read: _Reader) -> Decoder:
    softcap = read.config.attn_logit_softcapping
    layers = [
        Layer(
            input_norm=rms_norm(layer.input_layernorm, offset=1.0),
            attention=read.attention(layer.self_attn, layer.self_attn.o_proj, softcap),
            mlp=read.gated_mlp(layer.mlp, read.config.hidden_activation),
            mlp_norm=rms_norm(layer.pre_feedforward_layernorm, offset=1.0),
            attention_output_norm=rms_norm(layer.post_attention_layernorm, offset=1.0),
            mlp_output_norm=rms_norm(layer.post_feedforward_layernorm, offset=1.0),
        )
        for layer in read.decoder.layers
    ]
    embedding = read.decoder.embed_tokens
    scale = torch.tensor(read.config.hidden_size**0.5, dtype=embedding.weight.dtype)
    return read.whole(
        layers,
        rms_norm(read.decoder.norm, offset=1.0),
        embedding_scale=float(scale),
        logits_softcap=read.config.final_logit_softcapping,
    )


def _phi(read: _Reader) -> Decoder:
    if read.config.qk_layernorm:
        raise NotFusable("phi: qk_layernorm")
    layers = [
        Layer(
            input_norm=layer_norm(layer.input_layernorm),
            attention=read.attention(layer.self_attn, layer.self_attn.dense),
            mlp=MLP(
                up=read.rows(layer.mlp.fc1),
                down=read.columns(layer.mlp.fc2),
                activation=read.activation(read.config.hidden_act),
            ),
            mlp_norm=None,
        )
        for layer in read.decoder.layers
    ]
    return read.whole(layers, layer_norm(read.decoder.final_layernorm))


_FAMILIES: dict[str, Callable[[_Reader], Decoder]] = {
    "llama": _llama,
    "mistral": _llama,
    "qwen2": _llama,
    "qwen3": _llama,
    "gemma2": _gemma2,
    "phi": _phi,
}


def _with_window(read: _Reader, attention: Attention) -> Attention:
    """Mistral keeps its window in the configuration."""
    if read.config.model_type != "mistral" or read.config.sliding_window is None:
        return attention
    return replace(attention, window=read.config.sliding_window)


def rms_norm(module: Any, offset: float = 0.0) -> Norm:
    epsilon = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps
    return Norm(module.weight.detach().float() + offset, None, epsilon, layer_norm=False)


def layer_norm(module: nn.LayerNorm) -> Norm:
    return Norm(_floats(module.weight), _floats(module.bias), module.eps, layer_norm=True)


def _floats(parameter: torch.Tensor | None) -> torch.Tensor | None:
    return None if parameter is None else parameter.detach().float()


def _optional_norm(module: Any, name: str) -> Norm | None:
    return rms_norm(getattr(module, name)) if hasattr(module, name) else None


def _rotary(module: Any, max_model_len: int) -> Rotary:
    """The model's own angles, asked of it once for every position."""
    positions = torch.arange(max_model_len).unsqueeze(0)
    cosines, sines = module(torch.zeros(1, 1, dtype=torch.float32), positions)
    half = cosines.shape[-1] // 2
    if not torch.equal(cosines[..., :half], cosines[..., half:]):
        raise NotFusable("rotary angles that are not those of two equal halves")
    return Rotary(cosines[0, :, :half].contiguous(), sines[0, :, :half].contiguous())
