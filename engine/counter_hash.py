"""Owns chance: one uniform number for each (seed, position), and no state. Knows nothing of what it is used for."""

from __future__ import annotations

_MASK_64 = (1 << 64) - 1


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1), uniform over positions and over seeds: two rounds of splitmix64 (Steele et al., 2014)."""
    return (_splitmix64(_splitmix64(seed & _MASK_64) ^ position) >> 11) * 2.0**-53


def _splitmix64(state: int) -> int:
    mixed = (state + 0x9E3779B97F4A7C15) & _MASK_64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK_64
    return mixed ^ (mixed >> 31)
