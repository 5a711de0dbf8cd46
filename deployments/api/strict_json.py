"""Owns reading a request's body: its type, its size, its JSON, its fields. Knows nothing of what the fields mean."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from deployments.api.body_room import BodyPlace
from deployments.errors import ApiError, ClientDisconnected, invalid
from deployments.problems import first_problem_of

MAX_DEPTH = 32  # objects and lists inside one another; no field of ours needs a quarter of it
MAX_LENGTH_DIGITS = 19  # of a body's declared length: no bound of ours has as many
MAX_NAMES = 4096  # of one object; an error is kept for each that is unknown

Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request, max_body_bytes: int, max_body_s: float, place: BodyPlace) -> bytes:
    """The body as it came, and its place in the room for all of them as large as it is.

    Raises:
        ApiError: 415 for another content type than JSON, 413 for too many bytes, 408 for too many seconds.
        BodiesFull: other bodies leave it no room.
        ClientDisconnected: the client left before the body was complete.
    """
    _check_content_type(request)
    try:
        async with asyncio.timeout(max_body_s):
            return await _read_bytes(request, max_body_bytes, place)
    except TimeoutError:
        message = f"The body was not complete within {max_body_s:g} s."
        raise ApiError(408, message, type="timeout_error", code="request_timeout") from None


def parse_json(raw: bytes, schema: type[Body]) -> Body:
    """`raw` as `schema`; a field set to null counts as absent, as OpenAI's clients mean it.

    Raises:
        ApiError: 400 for whatever is wrong.
    """
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise invalid(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(document, dict):
        raise invalid(f"The body must be a JSON object, got {type(document).__name__}.", code="invalid_json")
    if is_deeper(document, MAX_DEPTH):
        raise invalid(f"The body must not nest objects and lists more than {MAX_DEPTH} deep.", code="invalid_json")
    _check_names(raw)
    try:
        return schema.model_validate({name: value for name, value in document.items() if value is not None})
    except ValidationError as error:
        raise _first_problem(error, schema) from None


def _check_names(raw: bytes) -> None:
    """Two readers of a name that stands twice may believe different ones. The fast parser does not tell of it, this one
    is asked for nothing else: what it reads is JSON, and not too deep."""
    json.loads(raw, object_pairs_hook=_few_and_once, parse_int=_nothing, parse_float=_nothing)


def _few_and_once(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > MAX_NAMES:
        message = f"A JSON object in the body has {len(pairs)} names; at most {MAX_NAMES} may be."
        raise invalid(message, code="invalid_json")
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise invalid(f"The name {name[:100]!r} stands twice in one JSON object.", code="invalid_json")
        seen.add(name)


def _nothing(digits: str) -> None:
    """What a number is does not matter here."""


def is_deeper(document: object, depth: int) -> bool:
    """Whether anything lies in more than `depth` objects and lists. Level by level: recursion would itself fail."""
    level = [document]
    for _ in range(depth):
        level = [inner for value in level for inner in _contents(value) if isinstance(inner, dict | list)]
    return bool(level)


def _contents(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _first_problem(error: ValidationError, schema: type[BaseModel]) -> ApiError:
    problem = first_problem_of(error, schema)
    if problem.kind == "unknown":
        return invalid(f"Unknown field: {problem.path}.", problem.path, "unknown_parameter")
    if problem.kind == "missing":
        return invalid(f"Missing field: {problem.path}.", problem.path, "missing_required_parameter")
    return invalid(f"{problem}.", problem.path or None, "invalid_value")


def _check_content_type(request: Request) -> None:
    given = request.headers.get("content-type")
    media_type = (given or "application/json").split(";")[0].strip().lower()
    if media_type != "application/json":
        message = f"Content-Type must be application/json, got {media_type!r}."
        raise ApiError(415, message, code="unsupported_media_type")


async def _read_bytes(request: Request, max_body_bytes: int, place: BodyPlace) -> bytes:
    if _declared_bytes(request) > max_body_bytes:
        raise _too_large(max_body_bytes)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_body_bytes:
                raise _too_large(max_body_bytes)
            place.grow(len(body))
    except ClientDisconnect:
        raise ClientDisconnected from None
    return bytes(body)


def _declared_bytes(request: Request) -> int:
    """As far as the header can be believed; 0 where it is no number. Its digits may be more than Python reads."""
    declared = request.headers.get("content-length", "").lstrip("0")
    return int(declared[:MAX_LENGTH_DIGITS]) if declared.isascii() and declared.isdigit() else 0


def _too_large(max_body_bytes: int) -> ApiError:
    return ApiError(413, f"The body is larger than {max_body_bytes} bytes.", code="request_too_large")
