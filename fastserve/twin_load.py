"""Owns what is asked of a twin, round by round: a mix at a rate, a closed loop or a trace. Plays nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fastserve.traffic_file import Traffic
from simulation.replay import Replay
from simulation.traffic import ClosedClients, OpenLoop
from simulation.traffic import Traffic as Asking
from simulation.workload import Arrival, ClosedLoop, Poisson, Scale, during, open_loop


@dataclass(frozen=True, slots=True)
class TwinLoad:
    """Exactly one of: a closed loop of `num_clients`; a replay, as it was recorded where there is no rate; a rate.

    The same seed, rate and duration ask what `python -m benchmarks.mixed_priority` asks.
    """

    traffic: Traffic
    replay: Replay | None
    rate_per_s: float | None
    num_clients: int | None
    think_s: float
    duration_s: float
    num_rounds: int
    seed: int

    def rounds(self) -> Iterator[Asking]:
        """One after another; each has a seed of its own.

        Raises:
            TraceTooShort: the trace has too few requests.
        """
        return (self._round(self.seed + number) for number in range(self.num_rounds))

    def expected_requests(self) -> int | None:
        """Of all rounds together, about; None of a closed loop."""
        if self.num_clients is not None:
            return None
        if self.rate_per_s is None and self.replay is not None:
            return self.num_rounds * len(self.replay.trace.requests)
        return round(self.num_rounds * (self.rate_per_s or 0.0) * self.duration_s)

    def in_words(self) -> str:
        mix = ", ".join(f"{each.name} {each.share:.0%}" for each in self.traffic.mix.classes)
        rounds = "one round" if self.num_rounds == 1 else f"{self.num_rounds} rounds"
        return f"{self._arrivals_in_words()}; {mix}; {rounds}, from seed {self.seed}."

    def _round(self, seed: int) -> Asking:
        if self.num_clients is not None:
            loop = ClosedLoop(self.num_clients, self.think_s, self.traffic.mix)
            return ClosedClients(loop, seed, self.duration_s)
        return OpenLoop(self._arrivals(seed), self._open_loop_s())

    def _open_loop_s(self) -> float:
        if self.replay is not None and self.rate_per_s is None:
            return self.replay.trace.duration_s
        return self.duration_s

    def _arrivals(self, seed: int) -> Iterator[Arrival]:
        mix = self.traffic.mix
        if self.replay is None:
            assert self.rate_per_s is not None, "a rate, a number of clients or a trace is given"
            return during(open_loop(Poisson(self.rate_per_s), mix, seed), self.duration_s)
        if self.rate_per_s is not None:
            return self.replay.arrivals(mix, self.rate_per_s, self.duration_s, seed)
        recorded = replace(self.replay.lengths or Scale(), rate=1.0).recorded(self.replay.trace.requests)
        if self.replay.lengths is None:
            return mix.arrivals((each.at_s for each in recorded), seed)
        return mix.laid_over(recorded, seed)

    def _arrivals_in_words(self) -> str:
        if self.num_clients is not None:
            thinking = f"and think for {self.think_s:g} s on average, for {self.duration_s:g} s"
            return f"{self.num_clients} clients that each wait for their answer {thinking}"
        if self.replay is None:
            return f"Poisson arrivals, {self.rate_per_s:g} requests/s for {self.duration_s:g} s"
        if self.rate_per_s is not None:
            return self.replay.in_words(self.rate_per_s, self.duration_s)
        return f"All {len(self.replay.trace.requests)} requests of {self.replay.name}, when they were recorded"
