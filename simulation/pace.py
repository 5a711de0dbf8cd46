"""Owns how long one replica's steps take, each for itself and many that only decode, and what its engine learns from
them. Plans nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from scheduling.batch_plan import Plan
from scheduling.cost_model import EngineCosts
from scheduling.measured_costs import MeasuredCosts
from simulation.engine_model import EngineModel
from simulation.step_tape import StepTape

#: An engine learns from all that it does at first, and later from one in so many: here costs never change, so that what
#: it has found would waver on, and no more. Prime, so that no pattern of steps hides some of them.
_LEARNS_FROM_ALL = 512
_LEARNS_FROM_EACH = 11


@dataclass(frozen=True, slots=True)
class Step:
    """A step that was planned. copied_s: what of `took_s` went before it."""

    plan: Plan
    took_s: float
    copied_s: float
    num_steps: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Run:
    """Steps that only decode. first_s: what the first costs; each after it costs `growth_s` more."""

    began_s: float
    num_decodes: int
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
        self._measured = MeasuredCosts(engine.block_bytes)
        self._num_done = 0

    @property
    def most_steps(self) -> int:
        """Of one run: it ends where the tape does."""
        return len(self._tape) - self._place

    @property
    def costs(self) -> EngineCosts:
        """What the batcher plans with: what the engine itself has found out about its steps."""
        return self._measured.latest

    def step(self, plan: Plan, num_context_tokens: int) -> Step:
        factor = self._tape.factor(self._place)
        copied_s = self._engine.copies_s(plan) * factor
        return Step(plan, copied_s + self._engine.plan_s(plan, num_context_tokens) * factor, copied_s)

    def run(self, began_s: float, num_steps: int, num_decodes: int, num_context_tokens: int) -> Run:
        first_s = self._engine.decodes_s(num_decodes, num_context_tokens)
        return self._run(began_s, num_decodes, num_steps, first_s, num_decodes * self._engine.step.context_token_s)

    def shortened(self, run: Run, now_s: float) -> Run:
        """The same, up to the end of the step that is under way then."""
        num_steps = self._num_steps_within(run, now_s)
        if num_steps == run.num_steps:
            return run
        return self._run(run.began_s, run.num_decodes, num_steps, run.first_s, run.growth_s)

    def num_ended(self, run: Run, now_s: float) -> int:
        """How many of its steps have ended by then."""
        return self._num_steps_within(run, now_s) - 1

    def done(self, doing: Step | Run) -> None:
        """It has ended, and the engine has seen what it took, and may learn from it: see `_LEARNS_FROM_ALL`."""
        self._place = (self._place + doing.num_steps) % len(self._tape)
        self._num_done += 1
        if self._num_done <= _LEARNS_FROM_ALL or self._num_done % _LEARNS_FROM_EACH == 0:
            self._learn(doing)

    def _learn(self, doing: Step | Run) -> None:
        """Of a run the engine is told as of steps that were all alike."""
        if isinstance(doing, Run):
            self._measured.observe_decodes(doing.num_decodes, doing.took_s / doing.num_steps, doing.num_steps)
        else:
            self._measured.observe_copies(len(doing.plan.copies), doing.copied_s)
            self._measured.observe_step(doing.plan.prefill, len(doing.plan.decode), doing.took_s - doing.copied_s)

    def _run(self, began_s: float, num_decodes: int, num_steps: int, first_s: float, growth_s: float) -> Run:
        took_s = self._tape.run_s(self._place, num_steps, first_s, growth_s)
        return Run(began_s, num_decodes, num_steps, first_s, growth_s, took_s)

    def _num_steps_within(self, run: Run, now_s: float) -> int:
        elapsed_s = now_s - run.began_s
        return self._tape.num_steps_within(self._place, run.num_steps, run.first_s, run.growth_s, elapsed_s)
