"""Owns what is sent and when, fixed before the clock starts: an idle phase, a loaded one, words for every request.
Sends nothing."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from benchmarks.asking import PlannedRequest
from benchmarks.load import prompt_of
from benchmarks.traffic import Traffic
from simulation.traces import Trace
from simulation.workload import Arrival, EmpiricalLengths, Mix, Poisson, Recorded, Scale, during, open_loop

_MANY = 10_000


class TraceTooShort(ValueError):
    """The trace ends before the schedule does. For whoever chose the duration; nothing is played twice."""


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


@dataclass(frozen=True, slots=True)
class Replay:
    """Recorded traffic instead of Poisson: its gaps, and its lengths unless the classes keep theirs.

    name: of its file. lengths: how the recorded ones are scaled and cut, by a scale whose rate is not used; None keeps
    the classes'.
    """

    name: str
    trace: Trace
    lengths: Scale | None

    @property
    def recorded_lengths(self) -> EmpiricalLengths | None:
        if self.lengths is None:
            return None
        return EmpiricalLengths(tuple(self.lengths.size(size) for size in self.trace.sizes))

    def in_words(self, rate_per_s: float) -> str:
        skipped = f", {self.trace.num_skipped} broken rows left out" if self.trace.num_skipped else ""
        return (
            f"Arrivals of `{self.name}` ({len(self.trace.requests)} requests{skipped}) at "
            f"{rate_per_s / self.trace.rate_per_s:.3g} times the recorded rate, {_lengths_in_words(self.lengths)}"
        )

    def arrivals(self, mix: Mix, rate_per_s: float, duration_s: float, seed: int) -> Iterator[Arrival]:
        """The beginning of the trace, with its gaps stretched or pressed together to this mean rate.

        Raises:
            TraceTooShort: it ends before `duration_s`.
        """
        factor = rate_per_s / self.trace.rate_per_s
        if self.trace.duration_s / factor < duration_s:
            raise TraceTooShort(
                f"the trace: expected at least {duration_s:g} s at {rate_per_s:g} requests/s, "
                f"got {self.trace.duration_s / factor:.1f} s"
            )
        recorded = (self.lengths or Scale()).recorded(self.trace.requests)
        paced = (Recorded(each.at_s / factor, each.size) for each in recorded)
        if self.lengths is None:
            return during(mix.arrivals((each.at_s for each in paced), seed), duration_s)
        return during(mix.laid_over(paced, seed), duration_s)


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
        TraceTooShort: see `Replay.arrivals`.
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


def _lengths_in_words(scale: Scale | None) -> str:
    if scale is None:
        return "with the classes' lengths"
    limits = ", ".join(
        f"{what} cut at {limit}"
        for what, limit in (("prompts", scale.max_prompt_tokens), ("answers", scale.max_output_tokens))
        if limit is not None
    )
    factors = f"prompts {scale.prompt:g} and answers {scale.output:g} times as long as recorded"
    return f"{factors}, {limits}" if limits else factors
