"""Owns what is sent and when, fixed before the clock starts: an idle phase, a loaded one, words for every request.
Sends nothing."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.asking import PlannedRequest
from benchmarks.load import prompt_of
from fastserve.traffic_file import Traffic
from simulation.replay import Replay
from simulation.workload import Arrival, Mix, Poisson, during, open_loop

SHIPPED = Path(__file__).parent / "traffic.yaml"
_MANY = 10_000


@dataclass(frozen=True, slots=True)
class Words:
    """Prompts of about so many tokens, each of words drawn anew, so that no cached prefix helps.

    tokens_per_word: of the served model's tokenizer. nonce: differs in every run, so that none asks what an earlier one
    did.
    """

    tokens_per_word: float
    nonce: int

    def planned(self, arrivals: Iterable[Arrival], phase: str) -> Iterator[PlannedRequest]:
        """phase: two phases of one name get the same words."""
        rng = random.Random(f"{self.nonce}/{phase}")
        for arrival in arrivals:
            num_words = max(1, round(arrival.num_prompt_tokens / self.tokens_per_word))
            yield PlannedRequest(arrival, prompt_of(num_words, rng))


def idle_arrivals(traffic: Traffic, number: int, rate_per_s: float, seed: int) -> list[Arrival]:
    """The most urgent class alone, evenly spaced: at a low rate none meets another."""
    alone = Mix((replace(traffic.most_urgent, share=1.0),), traffic.mix.tenants)
    times_s = (position / rate_per_s for position in range(number))
    return list(alone.arrivals(times_s, seed))


def load_arrivals(
    traffic: Traffic, replay: Replay | None, rate_per_s: float, duration_s: float, seed: int
) -> list[Arrival]:
    """All classes: Poisson, or recorded traffic.

    Raises:
        TraceTooShort: see `Replay.piece`.
    """
    if replay is not None:
        return list(replay.arrivals(traffic.mix, rate_per_s, duration_s, seed))
    return list(during(open_loop(Poisson(rate_per_s), traffic.mix, seed), duration_s))


def endless_arrivals(traffic: Traffic, seed: int) -> Iterator[Arrival]:
    """For clients that ask whenever they may."""
    return traffic.mix.arrivals(itertools.repeat(0.0), seed)


def mean_output_tokens(traffic: Traffic, seed: int) -> float:
    """Of an answer of the mix, over many draws."""
    drawn = itertools.islice(endless_arrivals(traffic, seed), _MANY)
    return statistics.fmean(arrival.num_output_tokens for arrival in drawn)
