"""Compares engines alone: whole batches of token ids, no HTTP. Knows the work, not what runs it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.peers.pairs import Comparison, comparisons, in_turn
from benchmarks.peers.reference import (
    CHECKED_PROMPT_TOKENS,
    CHECKED_PROMPTS,
    CHECKED_TOKENS,
    Agreement,
    Judge,
    check_answers,
)
from benchmarks.peers.side import Side

MAX_MODEL_LEN = 2048
_TOKEN_IDS = range(100, 40_000)  # ordinary tokens of the embedded model


@dataclass(frozen=True, slots=True)
class OfflineWork:
    """sequences: how many at a time, a measure each; prefill_tokens: of the prompt whose prefill is timed."""

    sequences: Sequence[int]
    num_prompt_tokens: int
    num_output_tokens: int
    prefill_tokens: int

    @property
    def measures(self) -> list[str]:
        decode = [f"output, {number} at a time" for number in self.sequences]
        return [*decode, f"prompt, {self.prefill_tokens} at a time"]


def check_sides(sides: Sequence[Side], judge: Judge) -> dict[str, Agreement]:
    """Both sides' answers to the same prompts, before anything is timed. Raises WrongAnswers."""
    prompts = distinct_prompts(CHECKED_PROMPTS, CHECKED_PROMPT_TOKENS, seed=0)
    return {
        side.name: check_answers(side.name, prompts, side.generate(prompts, CHECKED_TOKENS).token_ids, judge)
        for side in sides
    }


def compare(ours: Side, peer: Side, work: OfflineWork, num_pairs: int) -> list[Comparison]:
    """Each pair runs the same prompts on both sides; a first round of both is not counted."""
    for side in (ours, peer):
        rates(side, work, seed=1)
    pairs = in_turn(num_pairs, turn_of(ours, work), turn_of(peer, work))
    return comparisons(work.measures, pairs)


def turn_of(side: Side, work: OfflineWork) -> Callable[[int], list[float]]:
    return lambda number: rates(side, work, seed=2 + number)


def rates(side: Side, work: OfflineWork, seed: int) -> list[float]:
    """One turn: a rate for each of the work's measures."""
    found = []
    for number in work.sequences:
        prompts = distinct_prompts(number, work.num_prompt_tokens, seed * 1000 + number)
        found.append(side.generate(prompts, work.num_output_tokens).tokens_per_s)
    prefill = side.generate(distinct_prompts(1, work.prefill_tokens, seed * 1000), 1)
    return [*found, work.prefill_tokens / prefill.took_s]


def distinct_prompts(number: int, num_tokens: int, seed: int) -> list[list[int]]:
    """Random tokens, the same for the same seed, so that no cached prefix helps."""
    rng = random.Random(seed)
    return [rng.choices(_TOKEN_IDS, k=num_tokens) for _ in range(number)]
