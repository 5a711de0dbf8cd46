"""Owns what arrives: a mix of classes and tenants over an open loop, a closed one or a trace, all from a seed. Knows
nothing of clocks, servers or files."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from simulation.lengths import EmpiricalLengths, FixedLengths, Lengths, Lognormal, LognormalLengths, Size
from simulation.processes import Diurnal, GammaBursts, OnOffBursts, Poisson, Process
from simulation.requirement import require, require_positive

__all__ = [
    "Arrival",
    "Recorded",
    "ClassShare",
    "TenantShare",
    "Mix",
    "open_loop",
    "during",
    "ClosedLoop",
    "Turn",
    "Scale",
    "Process",
    "Poisson",
    "GammaBursts",
    "OnOffBursts",
    "Diurnal",
    "Lengths",
    "Size",
    "FixedLengths",
    "Lognormal",
    "LognormalLengths",
    "EmpiricalLengths",
]
_ROUNDING = 1e-6  # of a sum of shares


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request. at_s: seconds after the workload began. priority: higher runs sooner."""

    at_s: float
    num_prompt_tokens: int
    num_output_tokens: int
    priority: float
    service_class: str
    tenant: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a trace says of one request. at_s: seconds after the trace's first."""

    at_s: float
    size: Size


@dataclass(frozen=True, slots=True)
class ClassShare:
    """A service class: which share of all requests is its own, at what priority, and how long they are."""

    name: str
    share: float
    priority: float
    lengths: Lengths


@dataclass(frozen=True, slots=True)
class TenantShare:
    """A tenant, and which share of all requests is its own, in every class alike."""

    name: str
    share: float


_Share = TypeVar("_Share", ClassShare, TenantShare)


@dataclass(frozen=True, slots=True)
class Mix:
    """Who asks. Class, tenant and lengths come from streams of their own: changing one leaves the others as they were.

    Raises:
        ValueError: shares that are negative or do not sum to 1, or a name that stands there twice.
    """

    classes: tuple[ClassShare, ...]
    tenants: tuple[TenantShare, ...] = (TenantShare("default", 1.0),)

    def __post_init__(self) -> None:
        _require_whole("classes", self.classes)
        _require_whole("tenants", self.tenants)

    def arrivals(self, times_s: Iterable[float], seed: int) -> Iterator[Arrival]:
        """One request at each of these times."""
        streams = {each.name: _stream(seed, "lengths", each.name) for each in self.classes}
        for at_s, (of_class, tenant) in zip(times_s, self._kinds(seed), strict=False):
            yield _arrival(at_s, of_class.lengths.draw(streams[of_class.name]), of_class, tenant)

    def laid_over(self, recorded: Iterable[Recorded], seed: int) -> Iterator[Arrival]:
        """Recorded requests with their own times and lengths, given classes and tenants."""
        for each, (of_class, tenant) in zip(recorded, self._kinds(seed), strict=False):
            yield _arrival(each.at_s, each.size, of_class, tenant)

    def _kinds(self, seed: int) -> Iterator[tuple[ClassShare, TenantShare]]:
        return zip(
            _drawn(self.classes, _stream(seed, "classes")), _drawn(self.tenants, _stream(seed, "tenants")), strict=False
        )


@dataclass(frozen=True, slots=True)
class Scale:
    """How a workload is made to fit another machine.

    rate: 2 halves every gap. prompt, output: factors of the lengths, which stay at least 1 token; longer ones than
    `max_prompt_tokens` and `max_output_tokens` are cut after that.

    Raises:
        ValueError: a factor is not positive, or a limit below 1.
    """

    rate: float = 1.0
    prompt: float = 1.0
    output: float = 1.0
    max_prompt_tokens: int | None = None
    max_output_tokens: int | None = None

    def __post_init__(self) -> None:
        require_positive(self, "rate", "prompt", "output")
        for name in ("max_prompt_tokens", "max_output_tokens"):
            limit = getattr(self, name)
            require(limit is None or limit >= 1, name, limit, "at least 1, or none")

    def size(self, size: Size) -> Size:
        return Size(
            _scaled(size.num_prompt_tokens, self.prompt, self.max_prompt_tokens),
            _scaled(size.num_output_tokens, self.output, self.max_output_tokens),
        )

    def recorded(self, recorded: Iterable[Recorded]) -> Iterator[Recorded]:
        return (Recorded(each.at_s / self.rate, self.size(each.size)) for each in recorded)

    def arrivals(self, arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
        for each in arrivals:
            size = self.size(Size(each.num_prompt_tokens, each.num_output_tokens))
            yield replace(
                each,
                at_s=each.at_s / self.rate,
                num_prompt_tokens=size.num_prompt_tokens,
                num_output_tokens=size.num_output_tokens,
            )


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one client: it thinks, then asks. request: its `at_s` is 0; `asked` says when."""

    think_s: float
    request: Arrival

    def asked(self, answered_s: float) -> Arrival:
        """The request, by a client whose last answer ended then."""
        return replace(self.request, at_s=answered_s + self.think_s)


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """Clients that each wait for the answer before they ask again.

    mean_think_s: between an answer and the next request, exponentially distributed; 0 asks again at once.
    """

    num_clients: int
    mean_think_s: float
    mix: Mix

    def __post_init__(self) -> None:
        require(self.num_clients >= 1, "num_clients", self.num_clients, "at least 1")
        require(0 <= self.mean_think_s < math.inf, "mean_think_s", self.mean_think_s, "0 or more, and finite")

    def turns(self, client: int, seed: int) -> Iterator[Turn]:
        """One client's turns, without end. client: from 0 to `num_clients` - 1."""
        require(0 <= client < self.num_clients, "client", client, f"0 to {self.num_clients - 1}")
        thinks = _stream(seed, "think", client)
        requests = self.mix.arrivals(itertools.repeat(0.0), seed=_stream(seed, "client", client).getrandbits(64))
        for request in requests:
            think_s = thinks.expovariate(1 / self.mean_think_s) if self.mean_think_s > 0 else 0.0
            yield Turn(think_s, request)


def open_loop(process: Process, mix: Mix, seed: int) -> Iterator[Arrival]:
    """Requests without end, in order of time. The times do not depend on the mix."""
    return mix.arrivals(process.times_s(_stream(seed, "times")), seed)


def during(arrivals: Iterable[Arrival], duration_s: float) -> Iterator[Arrival]:
    """Those of the first `duration_s` seconds."""
    return itertools.takewhile(lambda each: each.at_s < duration_s, arrivals)


def _arrival(at_s: float, size: Size, of_class: ClassShare, tenant: TenantShare) -> Arrival:
    return Arrival(at_s, size.num_prompt_tokens, size.num_output_tokens, of_class.priority, of_class.name, tenant.name)


def _stream(seed: int, *names: object) -> random.Random:
    return random.Random("/".join(map(str, (seed, *names))))


def _drawn(shares: tuple[_Share, ...], rng: random.Random) -> Iterator[_Share]:
    if len(shares) == 1:
        yield from itertools.repeat(shares[0])
    sums = list(itertools.accumulate(each.share for each in shares))
    while True:
        yield rng.choices(shares, cum_weights=sums)[0]


def _scaled(num_tokens: int, factor: float, limit: int | None) -> int:
    scaled = max(1, round(num_tokens * factor))
    return scaled if limit is None else min(scaled, limit)


def _require_whole(field: str, shares: tuple[_Share, ...]) -> None:
    names = [each.name for each in shares]
    require(len(set(names)) == len(names), f"{field}: names", names, "each once")
    for each in shares:
        require(0 <= each.share <= 1, f"{field}: share of {each.name}", each.share, "a share from 0 to 1")
    total = math.fsum(each.share for each in shares)
    require(abs(total - 1) <= _ROUNDING, f"{field}: sum of shares", total, "1")
