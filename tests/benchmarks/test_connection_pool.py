"""How many connections are opened, and which is used again."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator

import pytest

from benchmarks import connection_pool
from benchmarks.connection_pool import ConnectionPool, allow_many_connections
from tests.benchmarks.scripted_server import scripted_server

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


class Counting:
    """Answers when so many requests have come. num_connections: that were opened."""

    def __init__(self, at_once: int) -> None:
        self.num_connections = 0
        self._barrier = asyncio.Barrier(at_once)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while True:
                await reader.readuntil(b"\r\n\r\n{}")
                await self._barrier.wait()
                writer.write(ANSWER)


@contextlib.asynccontextmanager
async def pooled(server: Counting) -> AsyncIterator[ConnectionPool]:
    async with scripted_server(server.serve) as port:
        with contextlib.closing(ConnectionPool(f"http://127.0.0.1:{port}")) as pool:
            yield pool


async def test_as_many_connections_are_opened_as_are_in_use_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_pool, "_FRESH_S", 600.0)
    server = Counting(at_once=3)
    async with pooled(server) as pool:
        for _ in range(2):
            await asyncio.gather(*(pool.post("/", {}, {}) for _ in range(3)))

    assert server.num_connections == 3


async def test_a_connection_that_was_idle_for_too_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_pool, "_FRESH_S", -1.0)
    server = Counting(at_once=1)
    async with pooled(server) as pool:
        for _ in range(3):
            await pool.post("/", {}, {})

    assert server.num_connections == 3


def test_the_limit_on_open_files_is_raised_and_never_lowered() -> None:
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
        allow_many_connections()
        raised, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        allow_many_connections()

        assert raised > 256
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (raised, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))
