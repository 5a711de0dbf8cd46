"""One client's connection, against a scripted server in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from benchmarks.connection import Connection, Refused
from benchmarks.http_response import ResponseBroken

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
CLOSING = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"


class Scripted:
    """Answers each request with the next of its answers; an empty one closes the connection."""

    def __init__(self, *answers: bytes) -> None:
        self.requests: list[bytes] = []
        self.num_connections = 0
        self._answers = iter(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                answer = next(self._answers)
                writer.write(answer)
                if answer in (b"", CLOSING) or b"chunked" in answer:
                    break
        writer.close()


@contextlib.asynccontextmanager
async def connected(script: Scripted, path: str = "") -> AsyncIterator[Connection]:
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with contextlib.closing(Connection(f"http://127.0.0.1:{port}{path}")) as connection:
            yield connection


async def test_a_request_is_json_and_asks_for_no_compression() -> None:
    script = Scripted(OK)
    async with connected(script, "/prefix/") as connection:
        arrivals = await connection.post("/v1/completions", {"max_tokens": 3})

    assert b"".join(arrival.data for arrival in arrivals) == b"hi"
    (request,) = script.requests
    assert request.startswith(b"POST /prefix/v1/completions HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"accept-encoding: identity" in request
    assert request.endswith(b'\r\n\r\n{"max_tokens":3}')


async def test_whoever_asks_gets_the_headers_of_the_answer_too() -> None:
    async with connected(
        Scripted(b"HTTP/1.1 200 OK\r\nX-FastServe-Key: 1.5\r\ncontent-length: 2\r\n\r\nhi")
    ) as connection:
        answer = await connection.ask("/", {})

    assert answer.headers["x-fastserve-key"] == "1.5"
    assert b"".join(arrival.data for arrival in answer.arrivals) == b"hi"


@pytest.mark.parametrize(("answer", "num_connections"), [(OK, 1), (CLOSING, 3)])
async def test_a_connection_is_kept_while_the_service_keeps_it(answer: bytes, num_connections: int) -> None:
    script = Scripted(answer, answer, answer)
    async with connected(script) as connection:
        for _ in range(3):
            await connection.post("/", {})

    assert (len(script.requests), script.num_connections) == (3, num_connections)


async def test_another_status_is_a_refusal_with_its_words_and_the_connection_is_kept() -> None:
    script = Scripted(OK.replace(b"200 OK", b"429 Too Many"), OK)
    async with connected(script) as connection:
        with pytest.raises(Refused, match=r"^429: hi$"):
            await connection.post("/", {})
        await connection.post("/", {})

    assert script.num_connections == 1


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab"])
async def test_an_answer_that_breaks_off_is_an_error_and_the_next_one_is_not(answer: bytes) -> None:
    async with connected(Scripted(answer, OK)) as connection:
        with pytest.raises(ResponseBroken, match="closed before"):
            await connection.post("/", {})
        assert len(await connection.post("/", {})) == 1


async def test_an_answer_that_was_given_up_is_not_read_as_the_next_one() -> None:
    script = Scripted(OK[:-1], OK)
    async with connected(script) as connection:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.post("/", {})
        (arrival,) = await connection.post("/", {})

    assert arrival.data == b"hi"
    assert script.num_connections == 2


async def test_a_refusal_says_when_to_come_back_where_the_service_did() -> None:
    refusals = [b"retry-after: 7\r\n", b"", b"retry-after: Mon, 23 Nov 2026 02:00:00 GMT\r\n", b"Retry-After: -1\r\n"]
    script = Scripted(*(b"HTTP/1.1 429 No\r\n" + each + b"content-length: 0\r\n\r\n" for each in refusals))
    found = []
    async with connected(script) as connection:
        for _ in refusals:
            with pytest.raises(Refused) as refused:
                await connection.post("/", {})
            found.append((refused.value.status, refused.value.retry_after_s))

    assert found == [(429, 7.0), (429, None), (429, None), (429, None)]


async def test_a_requests_own_headers_are_sent_beside_the_usual_ones() -> None:
    script = Scripted(OK)
    async with connected(script) as connection:
        await connection.post("/", {}, {"authorization": "Bearer key"})

    assert b"\r\nauthorization: Bearer key\r\n" in script.requests[0]
