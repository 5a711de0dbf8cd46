"""Owns recorded traffic as a load: the beginning of a trace, played at the speed that makes a rate. Reads no clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from simulation.traces import Trace
from simulation.workload import Arrival, EmpiricalLengths, Mix, Scale


class TraceTooShort(ValueError):
    """The trace has too few requests for the schedule. For whoever chose rate and duration; nothing is played twice."""


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
