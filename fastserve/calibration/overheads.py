"""Works out what serving adds to an engine, from a short load on the service. Sends nothing."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from fastserve.calibration.fit import FitFailed
from fastserve.streamed_load import LoadLevel
from simulation.engine_model import EngineModel, ServiceOverheads

#: The way there and back is measured whole. Where it is spent does not show from outside: it is split evenly.
_NUM_PARTS = 3
_NUM_PLAYS = 4  # each brings the slowdown nearer, by as much as the play is off


def fit_overheads(
    alone: LoadLevel,
    num_prompt_tokens: int,
    engine: EngineModel,
    crowd_took_s: float,
    played_s: Callable[[ServiceOverheads], float],
) -> ServiceOverheads:
    """What explains how long a crowd's requests took altogether, and when a single client had its first token.

    alone: of a single client, whose prompts have `num_prompt_tokens`. played_s: how long the crowd's requests take on
    a twin with these overheads. A release travels as far as a grant.

    Raises:
        FitFailed: the load is not that of a single client, or nothing was measured.
    """
    if alone.num_clients != 1 or not alone.answers or crowd_took_s <= 0:
        raise FitFailed(f"alone: expected answers to a single client, got {len(alone.answers)} to {alone.num_clients}")
    slowdown = 1.0
    for _ in range(_NUM_PLAYS):
        overheads = _with_way(alone, num_prompt_tokens, engine, slowdown)
        slowdown *= crowd_took_s / played_s(overheads)
    return _with_way(alone, num_prompt_tokens, engine, slowdown)


def _with_way(alone: LoadLevel, num_prompt_tokens: int, engine: EngineModel, slowdown: float) -> ServiceOverheads:
    """The way there and back is what a first token takes beyond its step."""
    step_s = slowdown * statistics.fmean(engine.spread) * engine.prompt_s(num_prompt_tokens)
    ttft_s = statistics.median(answer.ttft_s for answer in alone.answers)
    part_s = max(0.0, ttft_s - step_s) / _NUM_PARTS
    return ServiceOverheads(part_s, part_s, part_s, part_s, slowdown)
