"""schemathesis plays the service's own page against it: in this process, with a model that computes nothing, or, where
the environment says so, against a service that runs (`python -m tests.fuzz`)."""

from __future__ import annotations

import os
from typing import Any

import hypothesis
import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.deployments.fake_service import Service
from tests.fuzz import CASES, MODEL, URL

NUM_CASES = int(os.environ.get(CASES, "20"))  # of each operation
SERVED = os.environ.get(MODEL, "fake")
MAX_TOKENS = 16  # of an answer, where as many as the context holds might be asked for
#: Every check but one: rules between fields, and between a prompt and the model's context, stand in no schema.
NOT_CHECKED = [positive_data_acceptance]

if URL in os.environ:
    schema = schemathesis.openapi.from_url(f"{os.environ[URL]}/openapi.json")
else:
    schema = schemathesis.openapi.from_asgi("/openapi.json", Service().api)


@schemathesis.hook
def before_call(context: Any, case: Any, _: Any) -> None:
    """Names the model that there is in most requests that name one, and asks for little."""
    body = case.body
    if not isinstance(body, dict):
        return
    if isinstance(body.get("model"), str) and len(body["model"]) % 4:
        body["model"] = SERVED
    ask_for_little(body, "max_length" if case.path == "/generate" else "max_tokens")


def ask_for_little(body: dict[str, Any], field: str) -> None:
    """field: how this operation calls the length of an answer. What is no length stays."""
    given = [name for name in (field, "max_completion_tokens") if body.get(name) is not None]
    for name in given:
        if type(body[name]) is int:
            body[name] = min(body[name], MAX_TOKENS)
    if not given:
        body[field] = MAX_TOKENS


@schema.parametrize()
@hypothesis.settings(
    max_examples=NUM_CASES, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_whatever_is_sent_is_answered_as_the_page_says(case: Any) -> None:
    case.call_and_validate(excluded_checks=NOT_CHECKED)
