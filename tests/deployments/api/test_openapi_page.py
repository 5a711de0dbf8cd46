"""The page that describes the routes tells of all of them, and of nothing else."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from deployments.api.openapi_page import openapi_page
from deployments.errors import SHAPES
from deployments.user_config import parse_user_config
from tests.deployments.fake_service import chat_body, serving

PAGE = openapi_page()


def schema_of(name: str) -> dict[str, Any]:
    """As a validator takes it: with what it refers to."""
    return {"$ref": f"#/components/schemas/{name}", "components": PAGE["components"]}


async def test_the_page_names_every_route_with_its_methods_and_no_other() -> None:
    async with serving() as service:
        served = (await service.client.get("/openapi.json")).json()
        routes = {(route.path, method) for route in service.api.routes for method in route.methods}  # type: ignore[attr-defined]
    told = {(path, method.upper()) for path, methods in served["paths"].items() for method in methods}
    assert told == {(path, method) for path, method in routes if method != "HEAD"}
    assert served == json.loads(json.dumps(PAGE))


async def test_the_page_is_closed_where_keys_are_configured() -> None:
    async with serving(settings=parse_user_config({"tenants": {"key": {"name": "a"}}})) as service:
        assert (await service.client.get("/openapi.json")).status_code == 401


def test_every_error_that_a_request_can_end_in_is_told() -> None:
    told = {int(status) for status in PAGE["paths"]["/v1/completions"]["post"]["responses"]}
    assert {shape.status for shape in SHAPES.values()} <= told


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"stop": "x", "n": None, "metadata": {"a": "b"}},
        {"stop": ["x", "y"], "stream": True, "stream_options": {"include_usage": True}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
        {"response_format": {"type": "json_object"}, "store": False},
    ],
)
async def test_what_the_page_allows_is_taken(fields: dict[str, object]) -> None:
    body = chat_body(**fields)
    jsonschema.validate(body, schema_of("ChatCompletionRequest"))
    async with serving() as service:
        assert (await service.post("/v1/chat/completions", body)).status_code == 200


@pytest.mark.parametrize(
    "fields", [{"stop": [""]}, {"temperature": 3}, {"frobnicate": 1}, {"store": True}, {"messages": []}]
)
async def test_what_the_page_forbids_is_refused(fields: dict[str, object]) -> None:
    body = chat_body(**fields)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, schema_of("ChatCompletionRequest"))
    async with serving() as service:
        assert (await service.post("/v1/chat/completions", body)).status_code == 400
