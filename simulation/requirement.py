"""Owns how a workload's settings say no: field, value, and what was expected. Knows none of the settings."""

from __future__ import annotations

import math

POSITIVE = "a finite number above 0"


def require(holds: bool, field: str, value: object, expected: str) -> None:
    """
    Raises:
        ValueError: it does not hold.
    """
    if not holds:
        raise ValueError(f"{field}: expected {expected}, got {value!r}")


def require_positive(settings: object, *fields: str) -> None:
    """
    Raises:
        ValueError: one of these attributes is zero, negative, infinite or not a number.
    """
    for field in fields:
        value = getattr(settings, field)
        require(0 < value < math.inf, field, value, POSITIVE)
