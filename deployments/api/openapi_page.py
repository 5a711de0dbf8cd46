"""Owns the page that describes the HTTP routes, OpenAPI 3.1. Knows what may be sent and said; serves nothing."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from deployments.api.key_gate import OPEN_PATHS
from deployments.api.openai_schemas import ChatCompletionRequest, CompletionRequest, GenerateRequest, RequestFields
from deployments.errors import SHAPES

JsonObject = dict[str, Any]

_REFERENCE = "#/components/schemas/{model}"
_ERROR: JsonObject = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_USAGE: JsonObject = {
    "type": "object",
    "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
    "properties": {name: {"type": "integer"} for name in ("prompt_tokens", "completion_tokens", "total_tokens")},
}
_SAID = {
    400: "What was sent is wrong: `param` names the field",
    401: "No API key, or one that nobody holds; only where keys are configured",
    403: "The key may not ask for this",
    404: "There is no such model",
    408: "The deadline passed in the queue, or the body did not come in time",
    413: "The body is too large",
    415: "The body is not JSON",
    429: "Too much waits, or the key's quota is spent: `Retry-After` says when there is room",
    500: "A fault of the service",
    503: "Nobody can answer now: `Retry-After` says when to come back",
}
_OF_A_BODY = (400, 401, 403, 404, 408, 413, 415, 429, 500, 503)
_HAVE_RETRY_AFTER = (429, 503)


def openapi_page() -> JsonObject:
    """The whole page. A field of a body that is null counts as absent, so that every optional one may be."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in (ChatCompletionRequest, CompletionRequest, GenerateRequest)],
        ref_template=_REFERENCE,
    )
    schemas: JsonObject = definitions["$defs"]
    for model in (ChatCompletionRequest, CompletionRequest, GenerateRequest):
        schemas[model.__name__] = _as_read(schemas[model.__name__], model)
    return {
        "openapi": "3.1.0",
        "info": {"title": "FastServe", "version": version("fastserve")},
        "paths": _paths(),
        "security": [{}, {"key": []}],
        "components": {
            "schemas": {**schemas, "Error": _ERROR, "Usage": _USAGE},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths() -> JsonObject:
    chat = _answer("chat.completion", {"message": {"type": "object"}})
    text = _answer("text_completion", {"text": {"type": "string"}})
    simple = _object({"generated_text": {"type": "string"}, "generation_time": {"type": "number"}, "model_name": {}})
    any_object: JsonObject = {"type": "object"}
    model = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    paths: JsonObject = {
        "/v1/chat/completions": {"post": _asking("A chat completion", ChatCompletionRequest, chat, streams=True)},
        "/v1/completions": {"post": _asking("A completion", CompletionRequest, text, streams=True)},
        "/generate": {"post": _asking("A completion, in the simple form", GenerateRequest, simple, streams=False)},
        "/v1/models": {"get": _telling("The models", any_object)},
        "/v1/models/{model}": {"get": {**_telling("One model", any_object, 404), "parameters": [model]}},
        "/v1/queue": {"get": _telling("Who waits, in order, and why", any_object)},
        "/healthz": {"get": _telling("Whether this process runs", any_object)},
        "/readyz": {"get": _telling("Whether a request would be accepted now", any_object, 503)},
        "/metrics": {"get": _telling("Prometheus's text format", {"type": "string"}, 503, media_type="text/plain")},
        "/openapi.json": {"get": _telling("This page", any_object)},
    }
    for path in OPEN_PATHS:
        del paths[path]["get"]["responses"]["401"]
        paths[path]["get"]["security"] = []
    return paths


def _asking(
    summary: str, body: type[RequestFields | GenerateRequest], whole: JsonObject, *, streams: bool
) -> JsonObject:
    answer: JsonObject = {"application/json": {"schema": whole}}
    if streams:
        answer["text/event-stream"] = {"schema": _object({"data": {"type": "string"}})}  # of each event
    assert {shape.status for shape in SHAPES.values()} <= set(_OF_A_BODY), "a status that the page does not tell of"
    schema = {"$ref": _REFERENCE.format(model=body.__name__)}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"200": {"description": "The answer", "content": answer}, **_errors(_OF_A_BODY)},
    }


def _telling(summary: str, schema: JsonObject, *errors: int, media_type: str = "application/json") -> JsonObject:
    told = {"description": summary, "content": {media_type: {"schema": schema}}}
    return {"summary": summary, "responses": {"200": told, **_errors((401, *errors, 500))}}


def _errors(statuses: Iterable[int]) -> JsonObject:
    return {str(status): _error(status) for status in statuses}


def _error(status: int) -> JsonObject:
    content = {"application/json": {"schema": {"$ref": _REFERENCE.format(model="Error")}}}
    said: JsonObject = {"description": _SAID[status], "content": content}
    if status in _HAVE_RETRY_AFTER:
        said["headers"] = {"retry-after": {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds"}}
    return said


def _answer(kind: str, of_choice: JsonObject) -> JsonObject:
    choice = _object({"index": {"type": "integer"}, "finish_reason": {"type": ["string", "null"]}, **of_choice})
    facts = {
        "id": {"type": "string"},
        "object": {"const": kind},
        "created": {"type": "integer"},
        "model": {"type": "string"},
        "choices": {"type": "array", "minItems": 1, "items": choice},
        "usage": {"$ref": _REFERENCE.format(model="Usage")},
    }
    return _object(facts)


def _object(properties: JsonObject) -> JsonObject:
    """All of these, and perhaps others."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _as_read(schema: JsonObject, model: type[RequestFields | GenerateRequest]) -> JsonObject:
    """With what is taken and not acted on, and null where a field may be left out."""
    properties = dict(schema["properties"])
    if issubclass(model, RequestFields):
        properties |= {name: {"enum": list(values)} for name, values in model.neutral_fields().items() if values}
        properties |= {name: {} for name in model.label_fields()}
    required = schema.get("required", [])
    nullable = {
        name: each if name in required or not each else {"anyOf": [each, {"type": "null"}]}
        for name, each in properties.items()
    }
    return {**schema, "properties": nullable}
