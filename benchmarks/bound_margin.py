"""Owns reading a service's own check of its bound on overtaking. Judges nothing."""

from __future__ import annotations

import re

import httpx

from fastserve.errors import ServerFailed

_MARGIN = re.compile(r"^fastserve:overtaking_bound_margin_seconds(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_ANSWERS_WITHIN_S = 10.0


def read_smallest_slack_s(base_url: str, api_key: str | None = None) -> float | None:
    """By how much the closest overtaking kept its bound; None where nobody was overtaken, or nothing checks it.

    Raises:
        ServerFailed: the service does not give its metrics.
    """
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    try:
        scraped = httpx.get(f"{base_url}/metrics", headers=headers, timeout=_ANSWERS_WITHIN_S).raise_for_status()
    except httpx.HTTPError as error:
        raise ServerFailed(f"/metrics: {error}") from None
    return smallest_slack_s(scraped.text)


def smallest_slack_s(metrics: str) -> float | None:
    """The smallest margin that a scrape shows; None where there is none.

    Raises:
        ServerFailed: a margin is no number.
    """
    try:
        return min(map(float, _MARGIN.findall(metrics)), default=None)
    except ValueError as error:
        raise ServerFailed(f"/metrics: fastserve:overtaking_bound_margin_seconds: {error}") from None
