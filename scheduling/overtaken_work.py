"""Owns how long work takes that is overtaken by what comes later, for a while. Knows no queue and no policy."""

from __future__ import annotations

from collections.abc import Iterable

LEAST_SHARE = 0.1  # of the rate, that those who overtake are taken to leave to the others


def seconds_to_serve(num_tokens: float, tokens_per_s: float, overtaking: Iterable[tuple[float, float]]) -> float:
    """Seconds until so many tokens are served at this rate, and before them all that comes ahead of them meanwhile.

    overtaking: of those who come later, for how many seconds from now they go first, and how many tokens a second they
    are. The answer W is where `tokens_per_s * W` meets `num_tokens` and the sum of each one's tokens up to W.
    """
    later = sorted(overtaking)
    left_per_s = tokens_per_s - sum(per_s for _, per_s in later)
    least_per_s = LEAST_SHARE * tokens_per_s
    seconds = num_tokens / max(left_per_s, least_per_s)
    for until_s, per_s in later:
        if seconds <= until_s:
            break
        num_tokens += per_s * until_s
        left_per_s += per_s
        seconds = max(until_s, num_tokens / max(left_per_s, least_per_s))
    return seconds
