"""Owns the figures that the number of replicas is decided from. Knows nothing of how they were measured."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClassLoad:
    """What one service class asks of a model. A class on both sides of priority 0 is two of them.

    is_sheddable: its priorities are below 0. priority: the lowest that it has; orders the classes.
    objective_s: how long a request may wait; None where nobody has said, and then its wait asks for nothing.
    tokens_*: prompt and expected output. tokens_ahead: those that run before or with the last in line, whatever class.
    longest_wait_s: how long the first of them has waited already.
    arriving_tokens_per_s: faded average. num_arrived: requests since the figures before these.

    Raises:
        ValueError: a figure is negative, infinite or not a number.
    """

    name: str
    is_sheddable: bool = False
    priority: float = 0.0
    objective_s: float | None = None
    num_waiting: int = 0
    tokens_waiting: float = 0.0
    tokens_ahead: float = 0.0
    longest_wait_s: float = 0.0
    num_running: int = 0
    tokens_running: float = 0.0
    arriving_tokens_per_s: float = 0.0
    num_arrived: int = 0

    def __post_init__(self) -> None:
        if not math.isfinite(self.priority):
            raise ValueError(f"priority of class {self.name!r}: expected a finite number, got {self.priority!r}")
        if self.objective_s is not None and not 0 < self.objective_s < math.inf:
            raise ValueError(f"objective_s of class {self.name!r}: expected seconds above 0, got {self.objective_s!r}")
        for figure in _FIGURES:
            value = getattr(self, figure)
            if not 0 <= value < math.inf:
                raise ValueError(f"{figure} of class {self.name!r}: expected at least 0, got {value!r}")

    @property
    def is_idle(self) -> bool:
        """Nothing of it waits or runs, nor came and went."""
        return not (self.num_waiting or self.num_running or self.num_arrived)

    @property
    def is_late(self) -> bool:
        """Somebody has waited for longer than the objective allows."""
        return self.objective_s is not None and self.longest_wait_s > self.objective_s


_FIGURES = (
    "num_waiting",
    "tokens_waiting",
    "tokens_ahead",
    "longest_wait_s",
    "num_running",
    "tokens_running",
    "arriving_tokens_per_s",
    "num_arrived",
)


@dataclass(frozen=True, slots=True)
class ScalingLoad:
    """The load of one model, and what its replicas can do.

    tokens_per_s: what one replica serves while it has all that it can take, in tokens as `ClassLoad` counts them;
        None until that was measured.
    startup_s: what a replica takes to start; None until one was seen to.
    max_num_seqs, kv_tokens: what one replica holds; None before the first.
    num_replicas: those that serve. num_starting: those that will.

    Raises:
        ValueError: a figure is negative, infinite or not a number, or what must be positive is not.
    """

    classes: tuple[ClassLoad, ...] = ()
    tokens_per_s: float | None = None
    startup_s: float | None = None
    max_num_seqs: int | None = None
    kv_tokens: int | None = None
    num_replicas: int = 0
    num_starting: int = 0

    def __post_init__(self) -> None:
        for figure in ("tokens_per_s", "max_num_seqs", "kv_tokens"):
            value = getattr(self, figure)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{figure}: expected a finite number above 0, got {value!r}")
        for figure in ("startup_s", "num_replicas", "num_starting"):
            value = getattr(self, figure)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{figure}: expected a finite number of at least 0, got {value!r}")

    @property
    def is_idle(self) -> bool:
        return all(load.is_idle for load in self.classes)

    @property
    def num_ordered(self) -> int:
        """Replicas that serve or will: what a decision changes."""
        return self.num_replicas + self.num_starting

    def wait_s(self, load: ClassLoad) -> float | None:
        """How long the last in line of a class is predicted to wait; None where no rate was measured."""
        if not load.num_waiting:
            return 0.0
        if self.tokens_per_s is None:
            return None
        return load.tokens_ahead / (self.num_replicas * self.tokens_per_s) if self.num_replicas else math.inf

    def arriving_before(self, load: ClassLoad) -> float:
        """Tokens/s that arrive in a class or in those above it."""
        return sum(one.arriving_tokens_per_s for one in self.classes if one.priority >= load.priority)
