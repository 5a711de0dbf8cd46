"""Owns what a class expects of an answer. Knows nothing of how it was made or measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Objectives:
    """An answer that keeps both is good. Times in seconds."""

    ttft_s: float
    tpot_s: float

    def are_met(self, ttft_s: float, tpot_s: float | None) -> bool:
        """tpot_s: None of an answer of one token, which cannot be slow after it."""
        return ttft_s <= self.ttft_s and (tpot_s is None or tpot_s <= self.tpot_s)
