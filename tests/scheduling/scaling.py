"""A model on virtual time under an autoscaler: fluid work, replicas that take time to start. No queue, no order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

from scheduling.autoscaling import ClassLoad, ScalingDecision, ScalingLimits, ScalingLoad
from scheduling.faded import FadedRate

TOKENS_PER_S = 1000.0
STARTUP_S = 20.0
STEP_S = 2.0
SLOTS = 32
TOKENS_OF_A_REQUEST = 300.0
OBJECTIVE_S = 5.0


def standard(**figures: float) -> ClassLoad:
    """A class of priority 0."""
    return ClassLoad("standard", priority=0, objective_s=OBJECTIVE_S, **figures)  # type: ignore[arg-type]


def flex(**figures: float) -> ClassLoad:
    """A class below priority 0, with the same objective."""
    return ClassLoad("flex", is_sheddable=True, priority=-100, objective_s=OBJECTIVE_S, **figures)  # type: ignore[arg-type]


def waiting(tokens: float, **figures: float) -> dict[str, float]:
    """The figures of a class of which so much waits, with nobody else before it."""
    return {"num_waiting": 10, "tokens_waiting": tokens, "tokens_ahead": tokens, **figures}


def load(*classes: ClassLoad, num_replicas: int = 1, num_starting: int = 0, measured: bool = True) -> ScalingLoad:
    return ScalingLoad(
        classes=classes,
        tokens_per_s=TOKENS_PER_S if measured else None,
        startup_s=STARTUP_S,
        max_num_seqs=SLOTS,
        kv_tokens=100_000,
        num_replicas=num_replicas,
        num_starting=num_starting,
    )


def limits(**changed: float) -> ScalingLimits:
    defaults = {"min_replicas": 1, "max_replicas": 20, "downscale_window_s": 300.0, "idle_window_s": 900.0}
    return ScalingLimits(**{**defaults, **changed})  # type: ignore[arg-type]


class Decides(Protocol):
    """An autoscaler, or what stands beside it."""

    def decide(self, load: ScalingLoad, now_s: float) -> ScalingDecision: ...


@dataclass
class FluidModel:
    """Takes what arrives in each step, serves what its replicas can, and asks the autoscaler."""

    autoscaler: Decides
    make_class: Callable[..., ClassLoad] = standard
    num_replicas: int = 1
    now_s: float = 0.0
    backlog: float = 0.0
    starts: list[float] = field(default_factory=list)
    arrivals: FadedRate = field(default_factory=lambda: FadedRate(30.0, after_nothing=True))
    history: list[int] = field(default_factory=list)
    late_s: float = 0.0  # seconds in which who arrived had to wait beyond the objective

    def run(self, tokens_per_s: Callable[[float], float], seconds: int) -> FluidModel:
        for _ in range(int(seconds / STEP_S)):
            self._step(tokens_per_s(self.now_s) * STEP_S)
        return self

    def history_since(self, since_s: float) -> list[int]:
        """The numbers decided from then on."""
        return self.history[int(since_s / STEP_S) :]

    @property
    def num_turns(self) -> int:
        """How often replicas were removed after some had been added, or added after some had been removed."""
        moves = [after - before for before, after in pairwise(self.history) if after != before]
        return sum((one > 0) != (other > 0) for one, other in pairwise(moves))

    def _step(self, arriving: float) -> None:
        self.now_s += STEP_S
        self.num_replicas += sum(ready_s <= self.now_s for ready_s in self.starts)
        self.starts = [ready_s for ready_s in self.starts if ready_s > self.now_s]
        offered = self.backlog + arriving
        served = min(offered, self.num_replicas * TOKENS_PER_S * STEP_S)
        self.backlog = offered - served
        is_late = self.backlog > OBJECTIVE_S * self.num_replicas * TOKENS_PER_S
        self.late_s += STEP_S if is_late else 0.0
        self.arrivals.observe(STEP_S, arriving)
        self._scale_to(self.autoscaler.decide(self._load(arriving, served), self.now_s).num_replicas)

    def _load(self, arriving: float, served: float) -> ScalingLoad:
        num_running = served / (TOKENS_PER_S * STEP_S) * SLOTS
        return load(
            self.make_class(
                num_waiting=self.backlog / TOKENS_OF_A_REQUEST,
                tokens_waiting=self.backlog,
                tokens_ahead=self.backlog,
                num_running=num_running,
                tokens_running=num_running * TOKENS_OF_A_REQUEST,
                arriving_tokens_per_s=self.arrivals.per_s,
                num_arrived=arriving / TOKENS_OF_A_REQUEST,
            ),
            num_replicas=self.num_replicas,
            num_starting=len(self.starts),
        )

    def _scale_to(self, num_replicas: int) -> None:
        self.history.append(num_replicas)
        missing = num_replicas - self.num_replicas - len(self.starts)
        self.starts += [self.now_s + STARTUP_S] * max(0, missing)
        if missing < 0:
            kept = max(0, len(self.starts) + missing)
            self.num_replicas += min(0, len(self.starts) + missing)
            self.starts = self.starts[:kept]


def square_wave(high: float, half_period_s: float) -> Callable[[float], float]:
    """So many tokens/s for half of each period, and none for the other half."""
    return lambda now_s: high if now_s % (2 * half_period_s) < half_period_s else 0.0
