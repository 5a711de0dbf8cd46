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
from simulation.workload import Arrival, EmpiricalLengths, Mix, Poisson, Scale, during, open_loop

_MANY = 10_000


class TraceTooShort(ValueError):
    """The trace has too few requests for the schedule. For whoever chose rate and duration; nothing is played twice."""


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
class Piece:
    """The beginning of a trace. speed: 2 halves every gap."""

    num_requests: int
    speed: float


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
        """Of the whole trace, scaled: for what is asked beside the replay itself."""
        if self.lengths is None:
            return None
        return EmpiricalLengths(tuple(self.lengths.size(size) for size in self.trace.sizes))

    def recorded_rate_per_s(self, duration_s: float) -> float:
        """Of the trace's first `duration_s` seconds.

        Raises:
            TraceTooShort: it ends before.
        """
        if self.trace.duration_s < duration_s:
            raise TraceTooShort(
                f"{self.name}: expected at least {duration_s:g} s of traffic, got {self.trace.duration_s:.1f} s"
            )
        return sum(each.at_s < duration_s for each in self.trace.requests) / duration_s

    def piece(self, rate_per_s: float, duration_s: float) -> Piece:
        """So many requests from the beginning that they make this rate, once they are played in this time.

        Raises:
            TraceTooShort: it has not so many, or they all came at one time.
        """
        number = max(1, round(rate_per_s * duration_s))
        requests = self.trace.requests
        if number >= len(requests) or requests[number].at_s == 0:
            raise TraceTooShort(
                f"{self.name}: expected more than {number} requests, at more than one time, for {rate_per_s:g} "
                f"requests/s during {duration_s:g} s; got {len(requests)}"
            )
        return Piece(number, requests[number].at_s / duration_s)

    def arrivals(self, mix: Mix, rate_per_s: float, duration_s: float, seed: int) -> Iterator[Arrival]:
        """
        Raises:
            TraceTooShort: see `piece`.
        """
        piece = self.piece(rate_per_s, duration_s)
        played = replace(self.lengths or Scale(), rate=piece.speed).recorded(self.trace.requests[: piece.num_requests])
        if self.lengths is None:
            return mix.arrivals((each.at_s for each in played), seed)
        return mix.laid_over(played, seed)

    def in_words(self, rate_per_s: float, duration_s: float) -> str:
        piece = self.piece(rate_per_s, duration_s)
        skipped = f", {self.trace.num_skipped} broken rows left out" if self.trace.num_skipped else ""
        return (
            f"The first {piece.num_requests} requests of `{self.name}` ({len(self.trace.requests)}{skipped}) at "
            f"{piece.speed:.3g} times their recorded speed, {_lengths_in_words(self.lengths)}"
        )


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
