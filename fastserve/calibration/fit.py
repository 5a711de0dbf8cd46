"""Fits the twin's cost model to timed steps. Pure arithmetic; runs nothing."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastserve.calibration.step_sample import StepSample, StepShape
from scheduling.cost_model import StepCostModel
from simulation.engine_model import EngineModel

_NUM_QUANTILES = 41
_KNOTS = (8, 32, 128)  # tokens of a step at which the next one may cost more
_Floats = npt.NDArray[np.float64]


class FitFailed(ValueError):
    """The samples do not say what a step costs. For whoever calibrates; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class LoopCosts:
    """What the engine's loop adds to a step around its computing: always, and for each sequence."""

    step_s: float = 0.0
    seq_s: float = 0.0


@dataclass(frozen=True, slots=True)
class FitQuality:
    """How far each shape's median step lies from the fit, as a share of the fit: the median, and the worst."""

    num_samples: int
    num_shapes: int
    median_error: float
    worst_error: float


@dataclass(frozen=True, slots=True)
class EngineFit:
    """An engine's costs, and how well they describe it."""

    model: EngineModel
    quality: FitQuality


def fit_engine(
    samples: Sequence[StepSample], *, loop: LoopCosts, copied_block_s: float = 0.0, block_bytes: int = 0
) -> EngineFit:
    """Costs that make the errors smallest, as shares of what each shape's median step took; none is negative.

    Raises:
        FitFailed: fewer shapes than there are costs to find.
    """
    took_s, least = _medians(samples), len(_features(StepShape()))
    if len(took_s) < least:
        raise FitFailed(f"samples: expected at least {least} different steps, got {len(took_s)}")
    rows = np.array([_features(shape) for shape in took_s], float)
    times = np.array(list(took_s.values()), float)
    costs = non_negative(rows / times[:, None], np.ones(len(times)))
    base_s, decode_seq_s, context_token_s, prefill_token_s, prefill_context_s, *dearer_s = map(float, costs)
    model = EngineModel(
        step=StepCostModel(
            base_s=base_s + loop.step_s,
            prefill_token_s=prefill_token_s,
            decode_seq_s=decode_seq_s + loop.seq_s,
            context_token_s=context_token_s,
            copied_block_s=copied_block_s,
        ),
        prefill_context_s=prefill_context_s,
        block_bytes=block_bytes,
        dearer_rows=tuple((number, each_s) for number, each_s in zip(_KNOTS, dearer_s, strict=True) if each_s),
        spread=spread_of([sample.took_s / took_s[sample.shape] for sample in samples]),
    )
    errors = np.abs(rows @ costs / times - 1)
    quality = FitQuality(len(samples), len(took_s), float(np.median(errors)), float(errors.max()))
    return EngineFit(model, quality)


def non_negative(rows: _Floats, values: _Floats) -> _Floats:
    """Least squares with no negative coefficient: the most negative is left out, and the rest fitted anew."""
    kept = list(range(rows.shape[1]))
    costs = np.zeros(rows.shape[1])
    while kept:
        found = np.linalg.lstsq(rows[:, kept], values, rcond=None)[0]
        if (found >= 0).all():
            costs[kept] = found
            break
        del kept[int(found.argmin())]
    return costs


def spread_of(ratios: Sequence[float]) -> tuple[float, ...]:
    """Evenly spaced quantiles, the ends included."""
    shares = np.linspace(0, 1, _NUM_QUANTILES)
    return tuple(float(quantile) for quantile in np.quantile(ratios, shares))


def fit_loop(step_s_of: Callable[[int], float], most: int) -> LoopCosts:
    """From what a step of an engine that computes nothing takes, by the number of its sequences."""
    alone_s, full_s = step_s_of(1), step_s_of(most)
    seq_s = max(0.0, (full_s - alone_s) / (most - 1)) if most > 1 else 0.0
    return LoopCosts(step_s=max(0.0, alone_s - seq_s), seq_s=seq_s)


def _medians(samples: Sequence[StepSample]) -> dict[StepShape, float]:
    by_shape: dict[StepShape, list[float]] = {}
    for sample in samples:
        by_shape.setdefault(sample.shape, []).append(sample.took_s)
    return {shape: statistics.median(times_s) for shape, times_s in by_shape.items()}


def _features(shape: StepShape) -> list[float]:
    """What the costs are multiplied with, in their order."""
    return [
        1.0,
        shape.num_decodes,
        shape.num_context_tokens,
        shape.num_prefill_tokens,
        shape.prefill_context,
        *(max(0, shape.num_decodes + shape.num_prefill_tokens - number) for number in _KNOTS),
    ]
