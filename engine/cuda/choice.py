"""Chooses a token for every row where the logits lie, and waits for the device once. Knows no requests, no penalties.

The same function of settings, chance and logits as the sampler's own on the host: its filters, its inverse transform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.protocol import SamplingParams
from engine.token_choice import nucleus_floor
from engine.token_search import inverted

#: Nearly every nucleus is smaller than this; a wider one is left to the caller, who may look at the device again.
NUCLEUS_CANDIDATES = 1024


@dataclass(frozen=True, slots=True)
class Choices:
    """token_ids: None where nothing can be chosen. undecided: rows whose nucleus is wider than what was looked at."""

    token_ids: list[int | None]
    undecided: list[int]


@dataclass(frozen=True, slots=True)
class Settings:
    """Of every row, [n, 1]; where a filter is off, what excludes nothing. most_top_k: of all rows, 0 where none has."""

    temperature: Tensor
    uniform: Tensor
    is_drawn: Tensor
    log_min_p: Tensor
    top_k: Tensor
    top_p: Tensor
    most_top_k: int
    has_min_p: bool
    has_top_p: bool


def choose(logits: Tensor, params: list[SamplingParams], uniforms: list[float | None]) -> Choices:
    """logits: [n, vocab], float32, not changed. uniforms: in [0, 1); None takes the row's best token."""
    best, best_ids = logits.max(dim=-1)
    sound = best.isfinite()
    if all(uniform is None for uniform in uniforms):
        return _brought_back(best_ids, sound, torch.zeros_like(sound))
    settings = _settings(params, uniforms, logits)
    scaled = (logits - best.unsqueeze(1)) / settings.temperature
    scaled, wide = _filtered(scaled, settings)
    drawn_ids, totals = inverted(scaled.exp_(), settings.uniform)
    is_drawn = settings.is_drawn.squeeze(1)
    can_draw = (totals > 0.0) & (totals < math.inf)
    token_ids = torch.where(is_drawn, drawn_ids, best_ids)
    return _brought_back(token_ids, sound & (can_draw | ~is_drawn), sound & is_drawn & wide)


def _brought_back(token_ids: Tensor, sound: Tensor, undecided: Tensor) -> Choices:
    """The one wait for the device."""
    found, is_sound, is_undecided = torch.stack([token_ids, sound.long(), undecided.long()]).tolist()
    return Choices(
        token_ids=[token_id if fine else None for token_id, fine in zip(found, is_sound, strict=True)],
        undecided=[row for row, flag in enumerate(is_undecided) if flag],
    )


def _settings(params: list[SamplingParams], uniforms: list[float | None], logits: Tensor) -> Settings:
    """In one copy to the device, as float64, which holds every one of them exactly."""
    top_ks = [sampling.top_k if 0 < sampling.top_k < logits.shape[-1] else 0 for sampling in params]
    columns = [
        [1.0 if uniform is None else sampling.temperature for sampling, uniform in zip(params, uniforms, strict=True)],
        [uniform or 0.0 for uniform in uniforms],
        [float(uniform is not None) for uniform in uniforms],
        [math.log(sampling.min_p) if sampling.min_p > 0.0 else -math.inf for sampling in params],
        [float(top_k) for top_k in top_ks],
        [sampling.top_p for sampling in params],
    ]
    on_host = torch.tensor(columns, dtype=torch.float64, pin_memory=logits.is_cuda)
    on_device = on_host.to(logits.device, non_blocking=True).unsqueeze(2)
    single = on_device.float()
    return Settings(
        temperature=single[0],
        uniform=on_device[1],
        is_drawn=on_device[2] > 0.0,
        log_min_p=single[3],
        top_k=on_device[4].long(),
        top_p=single[5],
        most_top_k=max(top_ks),
        has_min_p=any(sampling.min_p > 0.0 for sampling in params),
        has_top_p=any(sampling.top_p < 1.0 for sampling in params),
    )


def _filtered(scaled: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """The scaled logits without what min_p, top_k and top_p (in this order) exclude, and which nuclei are too wide."""
    if settings.has_min_p:
        scaled = scaled.masked_fill(scaled < settings.log_min_p, -math.inf)
    if settings.most_top_k:
        best = scaled.topk(settings.most_top_k, dim=-1).values
        floor = best.gather(1, (settings.top_k - 1).clamp(min=0))
        scaled = scaled.masked_fill((scaled < floor) & (settings.top_k > 0), -math.inf)
    if not settings.has_top_p:
        return scaled, torch.zeros(len(scaled), dtype=torch.bool, device=scaled.device)
    probs = scaled.softmax(-1)
    best = probs.topk(min(NUCLEUS_CANDIDATES, probs.shape[-1]), dim=-1).values
    has_nucleus = settings.top_p < 1.0
    outside = (probs < nucleus_floor(best, settings.top_p)) & has_nucleus
    wide = (best.sum(-1, keepdim=True) < settings.top_p) & has_nucleus
    return scaled.masked_fill(outside, -math.inf), wide.squeeze(1)
