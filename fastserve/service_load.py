"""Puts a short load on a running service and shows what came of it. Starts nothing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rich.table import Table

from fastserve.streamed_load import LoadLevel, LoadRequest, run_level


def short_load(base_url: str, request: LoadRequest, clients: Sequence[int], num_each: int, seed: int) -> Table:
    """Streamed completions by number of clients, as a table.

    Raises:
        ServerUnreachable, RequestRefused: the service does not answer.
    """
    table = Table("clients", "output tokens/s", "TTFT p50 ms", "TTFT max ms", "TPOT p50 ms", title=request.model)
    for place, num_clients in enumerate(clients):
        level = run_level(base_url, request, num_clients, num_each, seed + place)
        table.add_row(str(num_clients), f"{level.output_tokens_per_s:.1f}", *_level_times(level))
    return table


def _level_times(level: LoadLevel) -> list[str]:
    ttfts_s = [answer.ttft_s for answer in level.answers]
    tpots_s = [answer.tpot_s for answer in level.answers if answer.tpot_s is not None]
    times_s = [statistics.median(ttfts_s), max(ttfts_s), statistics.median(tpots_s) if tpots_s else None]
    return ["-" if time_s is None else f"{1000 * time_s:.1f}" for time_s in times_s]
