"""What `instructor` must get: answers that are pydantic models, by a JSON schema and by a call of a tool."""

from __future__ import annotations

from typing import Literal

import instructor
import openai
import pytest
from pydantic import BaseModel, Field

from tests.conformance.clients.target import BASE_URL, MODEL

TOLD = [{"role": "user", "content": "Jason is 25 years old and lives in Paris. Extract him."}]
MODES = [instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS]


class Person(BaseModel):
    """A person of whom the text tells."""

    name: str = Field(max_length=40)
    age: int = Field(ge=0, le=150)
    city: Literal["Paris", "London"]


def client_in(mode: instructor.Mode) -> instructor.Instructor:
    return instructor.from_openai(openai.OpenAI(base_url=BASE_URL, api_key="unused", max_retries=0), mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_is_the_model_at_the_first_try(mode: instructor.Mode) -> None:
    person, answer = client_in(mode).create_with_completion(
        model=MODEL, messages=TOLD, response_model=Person, max_retries=0, temperature=0, max_tokens=128
    )
    assert isinstance(person, Person)
    assert answer.choices[0].finish_reason in ("stop", "tool_calls")


@pytest.mark.parametrize("mode", MODES)
async def test_a_coroutine_gets_the_model(mode: instructor.Mode) -> None:
    client = instructor.from_openai(openai.AsyncOpenAI(base_url=BASE_URL, api_key="unused"), mode=mode)
    person = await client.create(
        model=MODEL, messages=TOLD, response_model=Person, max_retries=0, temperature=0, max_tokens=128
    )
    assert isinstance(person, Person)


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_fills_the_model_in_step_by_step(mode: instructor.Mode) -> None:
    seen = list(
        client_in(mode).create_partial(
            model=MODEL, messages=TOLD, response_model=Person, max_retries=0, temperature=0, max_tokens=128
        )
    )
    assert len(seen) > 3
    assert Person.model_validate(seen[-1].model_dump()).city in ("Paris", "London")


@pytest.mark.parametrize("mode", MODES)
def test_a_list_of_models_comes_one_after_the_other(mode: instructor.Mode) -> None:
    class Colour(BaseModel):
        name: Literal["red", "blue"]

    colours = client_in(mode).create_iterable(
        model=MODEL,
        messages=[{"role": "user", "content": "Name the colours of the flag."}],
        response_model=Colour,
        max_retries=0,
        temperature=0,
        max_tokens=128,
    )
    assert {colour.name for colour in colours} <= {"red", "blue"}
