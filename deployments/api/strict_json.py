"""Owns reading a request's body: its type, its size, its JSON, its fields. Knows nothing of what the fields mean."""

from __future__ import annotations

from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from deployments.errors import ApiError, ClientDisconnected, invalid
from deployments.problems import problems_of

Body = TypeVar("Body", bound=BaseModel)


async def read_json(request: Request, schema: type[Body], max_body_bytes: int) -> Body:
    """The body as `schema`.

    Raises:
        ApiError: 415 for another content type, 413 for too many bytes, 400 for anything else that is wrong.
        ClientDisconnected: the client left before the body was complete.
    """
    _check_content_type(request)
    return parse_json(await _read_body(request, max_body_bytes), schema)


def parse_json(raw: bytes, schema: type[Body]) -> Body:
    """`raw` as `schema`; a field set to null counts as absent, as OpenAI's clients mean it."""
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise invalid(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(document, dict):
        raise invalid(f"The body must be a JSON object, got {type(document).__name__}.", code="invalid_json")
    try:
        return schema.model_validate({name: value for name, value in document.items() if value is not None})
    except ValidationError as error:
        raise _first_problem(error, schema) from None


def _first_problem(error: ValidationError, schema: type[BaseModel]) -> ApiError:
    problem = problems_of(error, schema)[0]
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


async def _read_body(request: Request, max_body_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_body_bytes:
        raise _too_large(max_body_bytes)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_body_bytes:
                raise _too_large(max_body_bytes)
    except ClientDisconnect:
        raise ClientDisconnected from None
    return bytes(body)


def _too_large(max_body_bytes: int) -> ApiError:
    return ApiError(413, f"The body is larger than {max_body_bytes} bytes.", code="request_too_large")
