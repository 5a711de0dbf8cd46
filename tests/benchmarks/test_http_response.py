"""Reading responses, however their bytes are cut."""

from __future__ import annotations

import pytest

from benchmarks.http_response import Response, ResponseBroken

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata: \r\nb;x=1\r\n1\r\n\r\n2\r\n\r\n3\r\n0\r\n\r\n"
)
FIXED = b"HTTP/1.1 429 Too Many\r\ncontent-length: 5\r\n\r\nlater"


def read(*pieces: bytes) -> tuple[Response, bytes]:
    response = Response()
    return response, b"".join(response.feed(piece) for piece in pieces)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_chunked_body_is_whole_at_its_last_chunk_however_it_is_cut(size: int) -> None:
    response, body = read(*(CHUNKED[at : at + size] for at in range(0, len(CHUNKED), size)))

    assert (response.status, response.is_whole, response.keeps_open) == (200, True, True)
    assert body == b"data: 1\r\n\r\n2\r\n\r\n3"


def test_a_body_that_looks_like_the_last_chunk_is_not_the_end() -> None:
    response, body = read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\n10\r\n\r\n0\r\n")

    assert not response.is_whole
    assert body == b"10\r\n\r\n0"


def test_a_body_of_known_length_is_whole_at_its_end() -> None:
    response, body = read(FIXED[:-2], FIXED[-2:])

    assert (response.status, response.is_whole, body) == (429, True, b"later")
    assert not read(FIXED[:-2])[0].is_whole


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    response, body = read(b"HTTP/1.0 200 OK\r\n\r\n", b"data", b": 1")
    response.closed()

    assert (body, response.keeps_open, response.is_whole) == (b"data: 1", False, False)


@pytest.mark.parametrize("head", ["HTTP/1.1 200 OK\r\nconnection: close", "HTTP/1.0 200 OK"])
def test_a_service_that_closes_is_not_asked_again_there(head: str) -> None:
    response, _ = read(f"{head}\r\ncontent-length: 0\r\n\r\n".encode())

    assert response.is_whole
    assert not response.keeps_open


@pytest.mark.parametrize("cut", [0, 20, len(CHUNKED) - 1])
def test_a_connection_that_closes_too_early_is_an_error(cut: int) -> None:
    response, _ = read(CHUNKED[:cut])

    with pytest.raises(ResponseBroken, match="closed before the response was whole"):
        response.closed()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"SSH-2.0-x\r\n\r\n", "status line, got 'SSH-2.0-x'"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n", "content-length: expected a number, got 'many'"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", "a chunk's length"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000, "a head of at most 65536 bytes"),
    ],
)
def test_what_is_not_http_is_refused_with_what_came(data: bytes, complaint: str) -> None:
    with pytest.raises(ResponseBroken, match=complaint):
        Response().feed(data)
