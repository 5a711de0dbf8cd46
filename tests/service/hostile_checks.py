"""Clients that hold connections and give nothing: they are cut off, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
import psutil

from deployments.user_config import BoundsConfig
from fastserve.haproxy import HEADERS_WITHIN_S
from tests.service.running import Service, descendants
from tests.service.waiting import until

NUM_IDLE = 2_000
_BATCH = 200
_MORE_S = 30.0  # than the service gives a client: the machine may be busy
_OTHER_FILES = 200

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def check_idle_connections_take_nobodys_place(service: Service, model: str) -> None:
    before = _num_connections(service)
    async with idle_connections(service, NUM_IDLE):
        assert _num_connections(service) >= before + NUM_IDLE
        await assert_answers(service, model)
    await until(lambda: _later(service), lambda number: number <= before + _OTHER_FILES)


async def check_slow_headers_are_cut_off(service: Service, model: str) -> None:
    """A byte now and then keeps a connection from being idle, and ends no header."""
    reader, writer = await _connect(service)
    dripping = asyncio.create_task(_drip(writer, b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: "))
    try:
        await assert_answers(service, model)
        async with asyncio.timeout(HEADERS_WITHIN_S + _MORE_S):
            said = await reader.read()
        assert said.startswith(b"HTTP/1.1 408")
    finally:
        await _end(dripping, writer)


async def check_slow_bodies_are_cut_off(service: Service, model: str) -> None:
    reader, writer = await _connect(service)
    head = (
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n"
    )
    dripping = asyncio.create_task(_drip(writer, head))
    try:
        await assert_answers(service, model)
        async with asyncio.timeout(BoundsConfig().max_body_s + _MORE_S):
            status = await reader.readline()
            rest = await reader.readuntil(b"}}")
        assert status.startswith(b"HTTP/1.1 408")
        assert b'"code":"request_timeout"' in rest
    finally:
        await _end(dripping, writer)


async def assert_answers(service: Service, model: str) -> None:
    """Somebody else is answered meanwhile."""
    async with httpx.AsyncClient(base_url=service.base_url, timeout=60) as http:
        response = await http.post("/v1/completions", json={"model": model, "prompt": "Hi", "max_tokens": 1})
    assert response.status_code == 200


@contextlib.asynccontextmanager
async def idle_connections(service: Service, number: int) -> AsyncIterator[None]:
    """So many clients are connected and ask nothing."""
    allow_files(number + _OTHER_FILES)
    connections: list[Connection] = []
    try:
        while len(connections) < number:
            connections += await asyncio.gather(*(_connect(service) for _ in range(_BATCH)))
        yield
    finally:
        for _, writer in connections:
            writer.close()


async def _connect(service: Service) -> Connection:
    url = urlsplit(service.base_url)
    return await asyncio.open_connection(url.hostname, url.port)


async def _drip(writer: asyncio.StreamWriter, head: bytes) -> None:
    """Sends the head, and then a byte a second until the other side has closed the connection."""
    closed = asyncio.create_task(writer.wait_closed())
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(head)
            while not (await asyncio.wait([closed], timeout=1))[0]:
                writer.write(b"a")
                await writer.drain()
    finally:
        closed.cancel()
        await asyncio.gather(closed, return_exceptions=True)


async def _end(dripping: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    writer.close()


async def _later(service: Service) -> int:
    return await asyncio.to_thread(_num_connections, service)


def _num_connections(service: Service) -> int:
    """Of all processes of the service, at the port that clients connect to."""
    port, number = urlsplit(service.base_url).port, 0
    for process in descendants(service.process.pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            number += sum(one.laddr.port == port for one in process.net_connections("tcp") if one.laddr)
    return number


def allow_files(number: int) -> None:
    """This process may have so many open at least."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))


HOSTILE_CHECKS = (
    check_idle_connections_take_nobodys_place,
    check_slow_headers_are_cut_off,
    check_slow_bodies_are_cut_off,
)
