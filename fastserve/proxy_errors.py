"""Owns what HAProxy answers where no ingress does: in the shape of ours. Starts nothing.

What is no request at all (malformed, headers too large or too slow) it ends by itself, with pages that are compiled in.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

import orjson

from deployments.errors import ApiError

_UNAVAILABLE = ApiError(
    503,
    "No ingress answers now: it ended before it did, or none is up.",
    type="service_unavailable_error",
    code="ingress_unavailable",
    retry_after_s=1.0,
)
ANSWERS = {
    500: ApiError(500, "The proxy failed to pass this request on.", type="server_error", code="internal_error"),
    502: _UNAVAILABLE,
    503: _UNAVAILABLE,
    504: _UNAVAILABLE,
}


def write_error_files(folder: Path) -> list[str]:
    """Writes an answer for each of HAProxy's own statuses; the lines of its configuration that name them."""
    lines = []
    for status, answer in ANSWERS.items():
        path = folder / f"{status}.http"
        path.write_bytes(_in_http(answer))
        lines.append(f'errorfile {status} "{path}"')
    return lines


def _in_http(answer: ApiError) -> bytes:
    body = orjson.dumps(answer.body())
    headers = {"content-type": "application/json", "content-length": str(len(body)), **answer.headers()}
    head = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    head += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*head, "connection: close", "", ""]).encode() + body
