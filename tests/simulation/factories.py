"""Builds mixes, with defaults for all that a test does not care about."""

from __future__ import annotations

import itertools

from simulation.workload import Arrival, ClassShare, FixedLengths, Mix, Poisson, Size, TenantShare, open_loop

URGENT = ClassShare("urgent", 0.1, 10.0, FixedLengths(Size(32, 16)))
STANDARD = ClassShare("standard", 0.4, 0.0, FixedLengths(Size(128, 64)))
FLEX = ClassShare("flex", 0.5, -10.0, FixedLengths(Size(512, 128)))


def make_mix(*classes: ClassShare, tenants: tuple[TenantShare, ...] = (TenantShare("default", 1.0),)) -> Mix:
    return Mix(classes or (URGENT, STANDARD, FLEX), tenants)


def first(number: int, mix: Mix | None = None, seed: int = 1, rate_per_s: float = 10.0) -> list[Arrival]:
    """So many Poisson arrivals."""
    return list(itertools.islice(open_loop(Poisson(rate_per_s), mix or make_mix(), seed), number))
