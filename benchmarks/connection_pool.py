"""Owns the connections to one service: as many as are in use at once. Knows nothing of what is sent."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping

from benchmarks.connection import Connection
from benchmarks.event_stream import Arrival

_MAX_FILES = 65_536
_FRESH_S = 2.0  # a server may close what is idle, uvicorn after 5 s; a request that meets that end would be lost


class ConnectionPool:
    """A request takes the connection that was used last, or opens one. Close it in the end."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._idle: list[tuple[float, Connection]] = []

    async def post(self, path: str, document: dict[str, object], headers: Mapping[str, str]) -> list[Arrival]:
        """See `Connection.post`."""
        connection = self._take(time.perf_counter())
        try:
            return await connection.post(path, document, headers)
        finally:
            self._idle.append((time.perf_counter(), connection))

    def close(self) -> None:
        for _, connection in self._idle:
            connection.close()
        self._idle.clear()

    def _take(self, now_s: float) -> Connection:
        if self._idle:
            since_s, connection = self._idle.pop()
            if now_s - since_s <= _FRESH_S:
                return connection
            connection.close()
            self.close()  # the others have been idle for longer
        return Connection(self._base_url)


def allow_many_connections() -> None:
    """More open files, as far as this process may: an overloaded service keeps many waiting."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if most == resource.RLIM_INFINITY else min(most, _MAX_FILES)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
