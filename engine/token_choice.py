"""Owns what happens to logits before a token is chosen: bias, penalties, filters. Knows nothing of batches or chance.

Every function treats its rows one by one, so that a row's result never depends on the rows beside it.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable

import torch
from torch import Tensor

from engine.protocol import SamplingParams

# Most nuclei are smaller than this; a wider one pays for a sort of its own.
NUCLEUS_CANDIDATES = 64


def is_adjusted(sampling: SamplingParams, num_output_tokens: int) -> bool:
    """Whether `adjust` would change anything for this row at this position."""
    return (
        sampling.repetition_penalty != 1.0
        or sampling.presence_penalty != 0.0
        or sampling.frequency_penalty != 0.0
        or bool(sampling.logit_bias)
        or num_output_tokens < sampling.min_tokens
    )


def is_filtered(sampling: SamplingParams, vocab_size: int) -> bool:
    """Whether `filter_rows` would exclude anything."""
    return sampling.min_p > 0.0 or 0 < sampling.top_k < vocab_size or sampling.top_p < 1.0


def adjust(row: Tensor, sampling: SamplingParams, history: list[int], num_prompt_tokens: int) -> None:
    """Apply bias, penalties and `min_tokens` to one row of logits, [vocab], in place.

    The order is vLLM's: bias, then repetition (over prompt and output), then frequency and presence (over the output).
    Stop tokens are masked last, so that nothing can bring them back.
    """
    if sampling.logit_bias:
        _add_bias(row, sampling.logit_bias)
    if sampling.repetition_penalty != 1.0:
        _penalise_repetition(row, sampling.repetition_penalty, history)
    if sampling.presence_penalty != 0.0 or sampling.frequency_penalty != 0.0:
        _penalise_output(row, sampling, history[num_prompt_tokens:])
    if len(history) - num_prompt_tokens < sampling.min_tokens:
        row[list(sampling.stop_token_ids)] = -math.inf


def _add_bias(row: Tensor, bias: tuple[tuple[int, float], ...]) -> None:
    token_ids, values = zip(*bias, strict=True)
    added = torch.frombuffer(array("d", values), dtype=torch.float64).to(row)
    row.index_add_(0, _ids(token_ids).to(row.device), added)


def _penalise_repetition(row: Tensor, penalty: float, history: list[int]) -> None:
    """Once for each token, however often it occurs: each occurrence reads the old value and writes the same new one."""
    seen = _ids(history).to(row.device)
    logits = row[seen]
    row[seen] = torch.where(logits > 0, logits / penalty, logits * penalty)


def _penalise_output(row: Tensor, sampling: SamplingParams, output: list[int]) -> None:
    if not output:
        return
    counts = torch.bincount(_ids(output).to(row.device))
    seen = counts.nonzero().squeeze(1)
    row[seen] -= sampling.frequency_penalty * counts[seen].to(row) + sampling.presence_penalty


def _ids(token_ids: Iterable[int]) -> Tensor:
    """At least one token id, by way of a buffer: a long list takes a seventh of the time that torch itself needs."""
    return torch.frombuffer(array("q", token_ids), dtype=torch.long)


def scale(logits: Tensor, params: list[SamplingParams]) -> Tensor:
    """Logits over temperature, shifted so that each row's best is 0: a small temperature overflows to -inf alone."""
    temperatures = _column(logits, [sampling.temperature for sampling in params])
    return (logits - logits.amax(-1, keepdim=True)) / temperatures


def filter_rows(scaled: Tensor, params: list[SamplingParams]) -> Tensor:
    """Mask what min_p, top_k and top_p (in this order) exclude. `scaled` comes from
    `scale` and may be changed."""
    vocab = scaled.shape[-1]
    for rows, mask in (
        ([i for i, p in enumerate(params) if p.min_p > 0.0], _mask_below_min_p),
        ([i for i, p in enumerate(params) if 0 < p.top_k < vocab], _mask_outside_top_k),
        ([i for i, p in enumerate(params) if p.top_p < 1.0], _mask_outside_nucleus),
    ):
        if len(rows) == len(params):
            scaled = mask(scaled, params)
        elif rows:
            scaled[rows] = mask(scaled[rows], [params[i] for i in rows])
    return scaled


def select_rows(rows: Tensor, indices: list[int]) -> Tensor:
    """These rows, without a copy where they are all."""
    return rows if len(indices) == rows.shape[0] else rows[indices]


def _mask_below_min_p(scaled: Tensor, params: list[SamplingParams]) -> Tensor:
    """Keep tokens at least min_p times as probable as the best (whose scaled logit is 0)."""
    floor = _column(scaled, [math.log(sampling.min_p) for sampling in params])
    return scaled.masked_fill(scaled < floor, -math.inf)


def _mask_outside_top_k(scaled: Tensor, params: list[SamplingParams]) -> Tensor:
    """Keep the k best; what ties with the k-th stays too."""
    ks = [sampling.top_k for sampling in params]
    best = scaled.topk(max(ks), dim=-1).values
    last = torch.tensor(ks, device=scaled.device).unsqueeze(1) - 1
    return scaled.masked_fill(scaled < best.gather(1, last), -math.inf)


def _mask_outside_nucleus(scaled: Tensor, params: list[SamplingParams]) -> Tensor:
    """Keep the fewest best tokens whose probabilities add up to top_p; what ties with the last one stays too."""
    top_p = _column(scaled, [sampling.top_p for sampling in params])
    probs = scaled.softmax(-1)
    best = probs.topk(min(NUCLEUS_CANDIDATES, probs.shape[-1]), dim=-1).values
    floor = nucleus_floor(best, top_p)
    for i in torch.nonzero(best.sum(-1) < top_p.squeeze(1)).flatten().tolist():
        floor[i] = nucleus_floor(_sorted_candidates(probs[i], params[i].top_p), top_p[i : i + 1])
    return scaled.masked_fill(probs < floor, -math.inf)


def _sorted_candidates(probs: Tensor, top_p: float) -> Tensor:
    """What may be in one row's nucleus, best first, [1, m]: the rest adds up to less than 1 - top_p."""
    return probs[probs >= (1.0 - top_p) / probs.numel()].sort(descending=True).values.unsqueeze(0)


def nucleus_floor(best: Tensor, top_p: Tensor) -> Tensor:
    """The smallest probability inside each nucleus, [n, 1]. `best` is sorted, best first."""
    mass_before = best.cumsum(-1) - best
    outside = mass_before >= top_p
    outside[:, 0] = False
    return best.masked_fill(outside, math.inf).amin(-1, keepdim=True)


def _column(like: Tensor, values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).unsqueeze(1)
