"""Owns what a step takes on an engine that was measured, and what serving adds to it. Knows no clock and no queue."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace

from scheduling.batch_plan import Plan
from scheduling.cost_model import StepCostModel, StepWork, context_sum


@dataclass(frozen=True, slots=True)
class EngineModel:
    """One engine's costs.

    step: of decodes and of prompts. Its `num_context_tokens` are those that the decodes attend to.
    prefill_context_s: what a token of a prompt adds for each token before it.
    block_bytes: of one block of the KV cache, for the engine's own choice between swap and recompute.
    spread: how many times as long as the fit steps took, at evenly spaced quantiles, the shortest first.
    dearer_rows: (a number, seconds): each token that a step computes beyond so many, of decodes and prompts together,
    adds so much to what it costs anyway. Few of them wait for the weights to be read, many for themselves.

    Raises:
        ValueError: a figure is negative, infinite or not a number, or the spread is empty, falls or reaches zero.
    """

    step: StepCostModel = field(default_factory=StepCostModel)
    prefill_context_s: float = 0.0
    block_bytes: int = 0
    spread: tuple[float, ...] = (1.0,)
    dearer_rows: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        _require_seconds("prefill_context_s", self.prefill_context_s)
        for _, dearer_s in self.dearer_rows:
            _require_seconds("dearer_rows", dearer_s)
        if self.block_bytes < 0:
            raise ValueError(f"block_bytes: expected at least 0, got {self.block_bytes!r}")
        rises = list(self.spread) == sorted(self.spread)
        if not self.spread or not rises or not 0 < self.spread[0] <= self.spread[-1] < math.inf:
            raise ValueError(f"spread: expected finite factors above 0 that never fall, got {list(self.spread)!r}")

    def plan_s(self, plan: Plan, num_context: int) -> float:
        """How long the step takes, without its copies. num_context: tokens that its decodes attend to, if it has any.

        Of a prompt of which a single token is computed the engine makes what it makes of a decode.
        """
        singles = [part for part in plan.prefill if part.num_tokens == 1]
        num_attended = (num_context if plan.decode else 0) + sum(part.start for part in singles)
        num_decodes = num_rows = len(plan.decode) + len(singles)
        took_s = self._linear_s(num_decodes, num_attended)
        for part in plan.prefill:
            if part.num_tokens > 1:
                num_rows += part.num_tokens
                took_s += self.step.prefill_token_s * part.num_tokens
                took_s += self.prefill_context_s * context_sum(part.num_tokens, part.start)
        return took_s + self._dearer_s(num_rows)

    def prompt_s(self, num_tokens: int) -> float:
        """How long a step takes that computes a prompt of more than one token and nothing else."""
        rows_s = self.step.prefill_token_s * num_tokens + self._dearer_s(num_tokens)
        return self.step.base_s + rows_s + self.prefill_context_s * context_sum(num_tokens, 0)

    def copies_s(self, plan: Plan) -> float:
        """How long the copies take that come before the step."""
        return self.step.copied_block_s * len(plan.copies)

    def decodes_s(self, num_decodes: int, num_context_tokens: int) -> float:
        """How long a step of decodes alone takes."""
        return self._linear_s(num_decodes, num_context_tokens) + self._dearer_s(num_decodes)

    def _dearer_s(self, num_rows: int) -> float:
        return sum(dearer_s * max(0, num_rows - number) for number, dearer_s in self.dearer_rows)

    def _linear_s(self, num_decodes: int, num_context_tokens: int) -> float:
        return self.step.cost_s(StepWork(num_decode_seqs=num_decodes, num_context_tokens=num_context_tokens))


@dataclass(frozen=True, slots=True)
class ServiceOverheads:
    """What a request meets outside the engine, in seconds, and what serving does to the engine.

    to_queue_s: from the client until the queue has its ticket. to_engine_s: from the grant until the engine has it.
    to_client_s: from the end of a step until the client has its tokens. release_s: from the end of a sequence until the
    queue knows. slowdown: how many times as long as alone the engine's steps take while it serves.

    Raises:
        ValueError: a time is negative, infinite or not a number, or the slowdown is not a finite number above 0.
    """

    to_queue_s: float = 0.0
    to_engine_s: float = 0.0
    to_client_s: float = 0.0
    release_s: float = 0.0
    slowdown: float = 1.0

    def __post_init__(self) -> None:
        for name in ("to_queue_s", "to_engine_s", "to_client_s", "release_s"):
            _require_seconds(name, getattr(self, name))
        if not 0 < self.slowdown < math.inf:
            raise ValueError(f"slowdown: expected a finite number above 0, got {self.slowdown!r}")

    def slow_down(self, engine: EngineModel) -> EngineModel:
        """The engine as it is while it serves."""
        step = StepCostModel(*(self.slowdown * getattr(engine.step, cost.name) for cost in fields(engine.step)))
        dearer_rows = tuple((number, self.slowdown * dearer_s) for number, dearer_s in engine.dearer_rows)
        prefill_context_s = self.slowdown * engine.prefill_context_s
        return replace(engine, step=step, prefill_context_s=prefill_context_s, dearer_rows=dearer_rows)


def num_context_tokens(plan: Plan) -> int:
    """Tokens in the cache that the plan's decodes attend to."""
    return sum(part.start for part in plan.decode)


def _require_seconds(name: str, value: float) -> None:
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: expected a finite number of seconds of at least 0, got {value!r}")
