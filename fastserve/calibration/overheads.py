"""Works out what serving adds to an engine, from a short load on the service. Pure arithmetic; sends nothing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from fastserve.calibration.fit import FitFailed
from fastserve.streamed_load import LoadLevel
from simulation.engine_model import EngineModel, ServiceOverheads

#: The way there and back is measured whole. Where it is spent does not show from outside: it is split evenly.
_NUM_PARTS = 3


def fit_overheads(levels: Sequence[LoadLevel], engine: EngineModel, num_prompt_tokens: int) -> ServiceOverheads:
    """levels: by number of clients, one of them with a single client; prompts all of this length.

    A release travels as far as a grant.

    Raises:
        FitFailed: no level with a single client, or no answer of more than one token.
    """
    alone = next((level for level in levels if level.num_clients == 1), None)
    if alone is None or len(levels) < 2:
        raise FitFailed("levels: expected one with a single client, and at least one more")
    slowdown = _slowdown(levels, engine, num_prompt_tokens)
    prompt_s = _mean_factor(engine) * (
        engine.step.base_s
        + engine.step.prefill_token_s * num_prompt_tokens
        + engine.prefill_context_s * num_prompt_tokens**2 / 2
    )
    way_s = max(0.0, statistics.median(answer.ttft_s for answer in alone.answers) - slowdown * prompt_s)
    part_s = way_s / _NUM_PARTS
    return ServiceOverheads(part_s, part_s, part_s, part_s, slowdown)


def _slowdown(levels: Sequence[LoadLevel], engine: EngineModel, num_prompt_tokens: int) -> float:
    """Times between tokens over what the engine alone would take, by least squares: long steps count most.

    Serving takes its share of the cores from every step. Whatever else ran beside either measurement is in it too, so
    that a machine whose speed changes with its neighbours is met as it was while it served.
    """
    served = [(_decode_s(engine, level, num_prompt_tokens), _tpot_s(level)) for level in levels]
    return sum(alone_s * served_s for alone_s, served_s in served) / sum(alone_s**2 for alone_s, _ in served)


def _tpot_s(level: LoadLevel) -> float:
    tpots_s = [answer.tpot_s for answer in level.answers if answer.tpot_s is not None]
    if not tpots_s:
        raise FitFailed("answers: expected more than one token each")
    return statistics.median(tpots_s)


def _decode_s(engine: EngineModel, level: LoadLevel, num_prompt_tokens: int) -> float:
    """What a step of all the clients' decodes takes, in the middle of their answers."""
    context = num_prompt_tokens + level.answers[0].num_output_tokens // 2
    return _mean_factor(engine) * engine.decodes_s(level.num_clients, level.num_clients * context)


def _mean_factor(engine: EngineModel) -> float:
    """By how much steps take longer than their fit, on average."""
    return statistics.fmean(engine.spread)
