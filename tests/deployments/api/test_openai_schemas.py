"""Any JSON object is either taken or refused with a 400 that says why: validation itself never fails."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import BaseModel

from deployments.api.openai_schemas import ChatCompletionRequest, CompletionRequest, GenerateRequest
from deployments.api.strict_json import parse_json
from deployments.errors import ApiError

SCHEMAS = (ChatCompletionRequest, CompletionRequest, GenerateRequest)
FIELDS = sorted({name for schema in SCHEMAS for name in schema.model_fields} | {"tools", "best_of", "metadata", "nope"})


def _json_values() -> SearchStrategy[object]:
    leaves = (
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=5)
        | st.sampled_from(["user", "assistant", "text", "Hi"])
    )
    keys = st.sampled_from(["role", "content", "type", "text", "include_usage", "1", "x"])
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner), max_leaves=8)


def _status(raw: bytes, schema: type[BaseModel]) -> int:
    try:
        parse_json(raw, schema)
    except ApiError as refusal:
        return refusal.status
    return 200


@pytest.mark.parametrize("schema", SCHEMAS)
@settings(max_examples=150, deadline=None)
@given(fields=st.dictionaries(st.sampled_from(FIELDS), _json_values(), max_size=6))
def test_any_object_is_taken_or_refused(
    schema: type[ChatCompletionRequest | CompletionRequest | GenerateRequest], fields: dict[str, object]
) -> None:
    good = {"model": "m", "prompt": "Hi"} if schema is not ChatCompletionRequest else {"model": "m", "messages": []}
    assert _status(orjson.dumps({**good, **fields}), schema) in (200, 400)


@settings(max_examples=150, deadline=None)
@given(raw=st.binary(max_size=40))
def test_any_bytes_that_are_no_request_are_refused(raw: bytes) -> None:
    assert _status(raw, CompletionRequest) == 400
