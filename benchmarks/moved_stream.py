"""Reads one stream to its end and takes the time of each piece: what a client sees of a replica's death."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import httpx


@dataclass(slots=True)
class StreamRead:
    """One answer as it came. arrivals_s: of each piece, monotonic. replica_id: who began it."""

    replica_id: str = ""
    text: str = ""
    num_tokens: int | None = None
    error: str | None = None
    arrivals_s: list[float] = field(default_factory=list)

    @property
    def added_delay_s(self) -> float:
        """By how much its longest gap is longer than its median one."""
        gaps = [after - before for before, after in zip(self.arrivals_s, self.arrivals_s[1:], strict=False)]
        return max(gaps) - median(gaps) if gaps else 0.0

    def is_as(self, undisturbed: StreamRead) -> bool:
        """Whether the client read the same, to the end."""
        same = (self.text, self.num_tokens) == (undisturbed.text, undisturbed.num_tokens)
        return same and self.error is None and self.num_tokens is not None


async def read_stream(
    base_url: str, body: dict[str, Any], timeout_s: float, on_piece: Callable[[], None]
) -> StreamRead:
    """Asks for a completion over a connection of its own. on_piece: told of each piece with text."""
    read = StreamRead()
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    try:
        async with (
            httpx.AsyncClient(base_url=base_url, timeout=timeout_s) as http,
            http.stream("POST", "/v1/completions", json=asked) as response,
        ):
            read.replica_id = response.headers.get("x-fastserve-replica", "")
            if response.status_code != httpx.codes.OK:
                read.error = f"{response.status_code}: {(await response.aread())[:200]!r}"
                return read
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    _take(read, json.loads(line.removeprefix("data: ")), on_piece)
    except httpx.TransportError as error:
        read.error = repr(error)
    return read


def _take(read: StreamRead, event: dict[str, Any], on_piece: Callable[[], None]) -> None:
    if "error" in event:
        read.error = str(event["error"])
        return
    read.num_tokens = (event.get("usage") or {}).get("completion_tokens", read.num_tokens)
    if text := "".join(choice["text"] for choice in event["choices"]):
        read.text += text
        read.arrivals_s.append(time.monotonic())
        on_piece()
