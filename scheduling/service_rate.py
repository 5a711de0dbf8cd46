"""Owns how fast the replicas serve while all of them are busy. Knows nothing of who waits for what."""

from __future__ import annotations

from dataclasses import dataclass

from scheduling.faded import FadedRate, FadedShare

MEMORY_S = 20.0
_RELEASES_REMEMBERED = 64


@dataclass(slots=True)
class _Meter:
    """One replica's counter as it was last read."""

    num_served: int
    read_s: float
    rate: FadedRate
    was_busy: bool = False


class ServiceRate:
    """Tokens a second of all replicas together, from what each says that it has computed, while all have enough to do.

    A replica with a few sequences is slower than a full one, so that idle times say nothing about what a queue waits
    for. One that has not been measured yet counts like the mean of the others.

    What a request will come to is not known: `share_used` is what requests lately came to, of what was expected.
    """

    def __init__(self) -> None:
        self._meters: dict[str, _Meter] = {}
        self._sum_per_s, self._num_measured = 0.0, 0
        self._share_used = FadedShare(_RELEASES_REMEMBERED)

    def observe(self, replica_id: str, num_served: int, now_s: float, *, is_busy: bool) -> None:
        """A replica's count of tokens since its start. is_busy: somebody waits for a place now, or nobody
        would find one: were it the former alone, a rate at which nobody may wait would never be measured again."""
        meter = self._meters.setdefault(replica_id, _Meter(num_served, now_s, FadedRate(MEMORY_S)))
        elapsed_s, num_new = now_s - meter.read_s, num_served - meter.num_served
        if is_busy and meter.was_busy and elapsed_s > 0 and num_new >= 0:
            self._count(meter, -1)
            meter.rate.observe(elapsed_s, num_new)
            self._count(meter, 1)
        meter.num_served, meter.read_s, meter.was_busy = num_served, now_s, is_busy

    def forget(self, replica_id: str) -> None:
        if (meter := self._meters.pop(replica_id, None)) is not None:
            self._count(meter, -1)

    def observe_release(self, num_expected: int, num_served: int) -> None:
        """A request has ended that was expected to come to so many tokens."""
        if num_expected > 0:
            self._share_used.observe(num_served, num_expected)

    @property
    def tokens_per_s(self) -> float | None:
        """What is served; None until it has been measured."""
        if not self._num_measured:
            return None
        return self._sum_per_s / self._num_measured * len(self._meters)

    @property
    def expected_tokens_per_s(self) -> float | None:
        """The same in tokens as they were expected, most of which no answer uses; None until it has been measured."""
        tokens_per_s = self.tokens_per_s
        return None if tokens_per_s is None else tokens_per_s / max(self._share_used.value, 0.01)

    @property
    def replica_expected_tokens_per_s(self) -> float | None:
        """Of one replica, on average."""
        rate = self.expected_tokens_per_s
        return None if rate is None else rate / len(self._meters)

    def _count(self, meter: _Meter, sign: int) -> None:
        """Puts what it measures into the sum, or takes it out: each of a thousand replicas asks for the sum in turn."""
        if (per_s := meter.rate.per_s) is not None:
            self._num_measured += sign
            self._sum_per_s = self._sum_per_s + sign * per_s if self._num_measured else 0.0
