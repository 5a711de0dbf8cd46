"""Finds a token in rows of logits: the best one, or one drawn from the softmax. Knows no filters and no requests."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

SEARCH_BLOCK = 64


class TokenSearch(Protocol):
    """What the sampler asks of every row; `logits` is [n, vocab], float32, and stays as it is."""

    def best(self, logits: Tensor) -> list[tuple[float, int]]:
        """Each row's maximum and the first token that has it; a NaN anywhere in the row is its maximum."""
        ...

    def draw(self, logits: Tensor, temperatures: list[float], uniforms: list[float]) -> list[int | None]:
        """Inverse transform sampling, in vocabulary order, from the softmax of each row at its temperature.

        uniforms: in [0, 1). None where a row has no weights to draw from: all 0, or not numbers.
        """
        ...


class TorchSearch:
    """In torch, on any device."""

    def best(self, logits: Tensor) -> list[tuple[float, int]]:
        values, token_ids = logits.max(dim=-1)
        return list(zip(values.tolist(), token_ids.tolist(), strict=True))

    def draw(self, logits: Tensor, temperatures: list[float], uniforms: list[float]) -> list[int | None]:
        scales = torch.tensor(temperatures, dtype=logits.dtype, device=logits.device).unsqueeze(1)
        return invert(((logits - logits.amax(-1, keepdim=True)) / scales).exp_(), uniforms)


TORCH_SEARCH = TorchSearch()


def invert(weights: Tensor, uniforms: list[float]) -> list[int | None]:
    """The token at which the running sum of each row's weights passes its share, in [0, 1), of the total.

    None where that total is 0 or no number.
    """
    column = torch.tensor(uniforms, dtype=torch.float64, device=weights.device).unsqueeze(1)
    found, totals = (tensor.tolist() for tensor in inverted(weights, column))
    return [token_id if 0.0 < total < math.inf else None for token_id, total in zip(found, totals, strict=True)]


def inverted(weights: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """As `invert`, with uniforms [n, 1] in float64: the tokens and the totals, [n], wherever the weights lie.

    Sums of blocks first, then inside one block: a fifth of the time of one running sum over the vocabulary.
    Running sums are float64, so that rare tokens keep their chance. A token of weight 0 is never returned.
    """
    blocks = pad(weights, (0, -weights.shape[-1] % SEARCH_BLOCK)).unflatten(-1, (-1, SEARCH_BLOCK))
    block_mass = blocks.sum(-1).double()
    running = block_mass.cumsum(-1)
    target = uniforms * running[:, -1:]
    index = _first_above(running, target)
    before = running.gather(1, index) - block_mass.gather(1, index)
    inner = blocks.take_along_dim(index.unsqueeze(-1), dim=1).squeeze(1).double().cumsum(-1)
    return (index * SEARCH_BLOCK + _first_above(inner, target - before)).squeeze(1), running[:, -1]


def _first_above(running: Tensor, target: Tensor) -> Tensor:
    """Where each row of running sums first exceeds its target; neither rounding nor NaN may push it out of the row."""
    last = running[:, -1:].contiguous()
    inside = torch.minimum(target.clamp(min=0.0), torch.nextafter(last, torch.zeros_like(last)))
    return torch.searchsorted(running, inside, right=True).clamp(max=running.shape[-1] - 1)
