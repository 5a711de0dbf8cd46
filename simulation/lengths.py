"""Owns how long requests are, in tokens of prompt and output. Knows nothing of when they come."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Protocol

from simulation.requirement import require, require_positive


@dataclass(frozen=True, slots=True)
class Size:
    """One request's lengths in tokens, each at least 1."""

    num_prompt_tokens: int
    num_output_tokens: int

    def __post_init__(self) -> None:
        require(self.num_prompt_tokens >= 1, "num_prompt_tokens", self.num_prompt_tokens, "at least 1")
        require(self.num_output_tokens >= 1, "num_output_tokens", self.num_output_tokens, "at least 1")


class Lengths(Protocol):
    """How long the requests of a class are."""

    def draw(self, rng: random.Random) -> Size: ...


@dataclass(frozen=True, slots=True)
class FixedLengths:
    """All the same."""

    size: Size

    def draw(self, rng: random.Random) -> Size:
        return self.size


@dataclass(frozen=True, slots=True)
class Lognormal:
    """One length in tokens. sigma: of its logarithm; 0 is always the median. max_tokens: longer ones are cut."""

    median_tokens: float
    sigma: float
    max_tokens: int

    def __post_init__(self) -> None:
        require_positive(self, "median_tokens")
        require(0 <= self.sigma < math.inf, "sigma", self.sigma, "a finite number of at least 0")
        require(self.max_tokens >= 1, "max_tokens", self.max_tokens, "at least 1")

    def draw(self, rng: random.Random) -> int:
        drawn = min(rng.lognormvariate(math.log(self.median_tokens), self.sigma), self.max_tokens)
        return max(1, round(drawn))


@dataclass(frozen=True, slots=True)
class LognormalLengths:
    """Prompt and output, each for itself."""

    prompt: Lognormal
    output: Lognormal

    def draw(self, rng: random.Random) -> Size:
        return Size(self.prompt.draw(rng), self.output.draw(rng))


@dataclass(frozen=True, slots=True)
class EmpiricalLengths:
    """As they were recorded: prompt and output are drawn together, so that a kind of prompt keeps its answers."""

    sizes: tuple[Size, ...]

    def __post_init__(self) -> None:
        require(len(self.sizes) > 0, "sizes", self.sizes, "at least one")

    def draw(self, rng: random.Random) -> Size:
        return rng.choice(self.sizes)
