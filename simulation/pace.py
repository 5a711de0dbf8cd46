"""Owns how long one replica's steps take, each for itself and many that only decode. Plans nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from scheduling.batch_plan import Plan
from scheduling.cost_model import EngineCosts
from simulation.engine_model import EngineModel
from simulation.step_tape import StepTape

_CONTEXT_STEP = 64  # tokens of context that change hardly anything


@dataclass(frozen=True, slots=True)
class Step:
    """A step that was planned."""

    plan: Plan
    took_s: float
    num_steps: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Run:
    """Steps that only decode. first_s: what the first costs; each after it costs `growth_s` more."""

    began_s: float
    num_steps: int
    first_s: float
    growth_s: float
    took_s: float


class Pace:
    """An engine's costs, read along a tape from `place` on."""

    def __init__(self, engine: EngineModel, tape: StepTape, place: int) -> None:
        self._engine = engine
        self._tape = tape
        self._place = place % len(tape)
        self._costs: dict[int, EngineCosts] = {}  # by mean context, in whole steps of `_CONTEXT_STEP`

    @property
    def most_steps(self) -> int:
        """Of one run: it ends where the tape does."""
        return len(self._tape) - self._place

    def costs(self, num_decodes: int, num_context_tokens: int) -> EngineCosts:
        """What the batcher plans with while so many decode over so much context."""
        place = round(num_context_tokens / num_decodes / _CONTEXT_STEP) if num_decodes else 0
        if (costs := self._costs.get(place)) is None:
            self._costs[place] = costs = self._engine.engine_costs(place * _CONTEXT_STEP)
        return costs

    def step(self, plan: Plan, num_context_tokens: int) -> Step:
        return Step(plan, self._engine.plan_s(plan, num_context_tokens) * self._tape.factor(self._place))

    def run(self, began_s: float, num_steps: int, num_decodes: int, num_context_tokens: int) -> Run:
        first_s = self._engine.decodes_s(num_decodes, num_context_tokens)
        return self._run(began_s, num_steps, first_s, num_decodes * self._engine.step.context_token_s)

    def shortened(self, run: Run, now_s: float) -> Run:
        """The same, up to the end of the step that is under way then."""
        num_steps = self._num_steps_within(run, now_s)
        return run if num_steps == run.num_steps else self._run(run.began_s, num_steps, run.first_s, run.growth_s)

    def num_ended(self, run: Run, now_s: float) -> int:
        """How many of its steps have ended by then."""
        return self._num_steps_within(run, now_s) - 1

    def go_on(self, num_steps: int) -> None:
        """So many steps have been done."""
        self._place = (self._place + num_steps) % len(self._tape)

    def _run(self, began_s: float, num_steps: int, first_s: float, growth_s: float) -> Run:
        took_s = self._tape.run_s(self._place, num_steps, first_s, growth_s)
        return Run(began_s, num_steps, first_s, growth_s, took_s)

    def _num_steps_within(self, run: Run, now_s: float) -> int:
        elapsed_s = now_s - run.began_s
        return self._tape.num_steps_within(self._place, run.num_steps, run.first_s, run.growth_s, elapsed_s)
