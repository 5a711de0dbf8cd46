"""schemathesis plays the service's own page against it, in this process, with a model that computes nothing."""

from __future__ import annotations

import os
from typing import Any

import hypothesis
import schemathesis
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.deployments.fake_service import Service

NUM_CASES = int(os.environ.get("FUZZ_CASES", "20"))  # of each operation
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]

schema = schemathesis.openapi.from_asgi("/openapi.json", Service().api)


@schemathesis.hook
def before_call(context: Any, case: Any, _: Any) -> None:
    """Names the model that there is in most requests that name one, and asks for little."""
    body = case.body
    if isinstance(body, dict) and isinstance(body.get("model"), str) and len(body["model"]) % 4:
        body["model"] = "fake"


@schema.parametrize()
@hypothesis.settings(
    max_examples=NUM_CASES, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_whatever_is_sent_is_answered_as_the_page_says(case: Any) -> None:
    case.call_and_validate(checks=CHECKS)
