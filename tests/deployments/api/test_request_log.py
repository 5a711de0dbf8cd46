"""One JSON line for each finished request, with its facts and without its text."""

from __future__ import annotations

import io
import json
from urllib.parse import quote

import pytest

from deployments.telemetry.json_log import make_logger
from scheduling.errors import QueueFull
from tests.deployments.fake_model import FakeHandle
from tests.deployments.fake_service import chat_body, serving


async def test_a_request_leaves_one_line_with_its_facts() -> None:
    async with serving(FakeHandle(num_cached_tokens=1)) as service:
        await service.post("/v1/chat/completions", chat_body(priority=6), x_request_id="mine-1")
    [line] = service.log_lines
    known = {name: line[name] for name in ("request_id", "route", "status", "model", "tenant", "priority", "class")}
    assert known == {
        "request_id": "mine-1",
        "route": "/v1/chat/completions",
        "status": 200,
        "model": "fake",
        "tenant": "default",
        "priority": 6.0,
        "class": "urgent",
    }
    assert (line["key"], line["queue_ms"], line["replica"]) == (7.5, 250.0, "replica-1")
    assert (line["prompt_tokens"], line["output_tokens"], line["cached_tokens"]) == (2, 7, 1)
    assert line["finish_reasons"] == ["stop"]
    assert line["ttft_s"] > 0
    assert line["tpot_s"] > 0


async def test_neither_prompt_nor_answer_is_ever_logged() -> None:
    async with serving(FakeHandle(says=lambda _: "an answer of mine")) as service:
        await service.chat(messages=[{"role": "user", "content": "a prompt of mine"}])
        await service.chat(messages=[{"role": "user", "content": "a prompt of mine"}], temperature=9)
    assert "of mine" not in json.dumps(service.log_lines)
    assert len(service.log_lines) == 2


async def test_a_crash_is_logged_with_its_traceback_and_without_the_prompt() -> None:
    async with serving(FakeHandle(error=ZeroDivisionError("a fault of ours"))) as service:
        response = await service.chat(messages=[{"role": "user", "content": "a prompt of mine"}])
    logged = json.dumps(service.log_lines)
    assert response.status_code == 500
    assert "a fault of ours" in logged
    assert "deployments/api/exchange.py" in logged
    assert "of mine" not in logged
    assert '"token_ids' not in logged
    assert "locals" not in logged


async def test_a_refused_request_leaves_a_line_with_its_status_and_code() -> None:
    async with serving(FakeHandle(error=QueueFull(5, 5, 1.0))) as service:
        await service.chat()
        await service.chat(model="nothing")
    refused, unknown = service.log_lines
    assert (refused["status"], refused["error_code"], refused["model"]) == (429, "queue_full", "fake")
    assert (unknown["status"], unknown["error_code"], unknown["model"]) == (404, "model_not_found", None)
    assert refused["ttft_s"] is None


async def test_a_stream_is_logged_when_it_has_ended() -> None:
    async with serving() as service:
        await service.chat(stream=True, n=2)
    [line] = service.log_lines
    assert line["output_tokens"] == 14
    assert line["finish_reasons"] == ["stop", "stop"]


def test_whatever_stands_in_a_field_stays_on_its_line() -> None:
    stream = io.StringIO()
    make_logger(stream).info("request", tenant='a"\n{"forged": true}\x1b[31m')
    [line] = stream.getvalue().splitlines()
    assert json.loads(line)["tenant"] == 'a"\n{"forged": true}\x1b[31m'
    assert "\x1b" not in line


NASTY = [
    "a\nforged line",
    "a\r\n{}",
    "\x1b[31mred\x1b[0m",
    "\x9b31mred",
    "bell\x07 back\x08 delete\x7f nul\x00",
    "lone \ud800 and \udfff",
    "\u2028\u2029\u202e\ufeff",
    "🙂",
]


@pytest.mark.parametrize("text", NASTY)
def test_whatever_comes_from_outside_is_one_line_of_printable_ascii(text: str) -> None:
    stream = io.StringIO()
    try:
        raise ValueError(text)
    except ValueError as error:
        make_logger(stream).error(text, model=text, route=text, exc_info=error, **{text: [text, {text: text}]})
    line = stream.getvalue()
    assert line.endswith("\n")
    assert line[:-1].isascii()
    assert line[:-1].isprintable()
    assert json.loads(line)["model"] == text
    assert json.loads(line)["event"] == text


def test_a_number_that_is_too_long_for_most_readers_is_logged_all_the_same() -> None:
    stream = io.StringIO()
    make_logger(stream).info("x", number=2**70)
    assert json.loads(stream.getvalue())["number"] == 2**70


@pytest.mark.parametrize("text", [each for each in NASTY if "\ud800" not in each])
async def test_no_request_can_forge_a_line_of_the_log(text: str) -> None:
    """The model's name, the user, the id and the path, on answers and on refusals."""
    async with serving() as service:
        headers = {"x-request-id": text.encode()}
        await service.client.post("/v1/chat/completions", json=chat_body(user=text), headers=headers)
        await service.client.post("/v1/chat/completions", json=chat_body(model=text, user=text), headers=headers)
        await service.client.post(f"/v1/{quote(text)}", json={}, headers=headers)
        await service.client.get(f"/v1/models/{quote(text)}")
        raw = service.raw_log
    assert len(raw.splitlines()) == len(service.log_lines) == 2
    assert raw.replace("\n", "").isprintable()
    assert raw.isascii()
    assert all(line["request_id"].startswith("req-") for line in service.log_lines)
