"""A long answer is written off the event loop, a short one at once, and neither is ever lost."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator

import pytest

from deployments.api.answer_parts import Part
from deployments.api.answer_writer import MAX_INLINE_LOGPROBS, AnswerWriter
from deployments.api.openai_responses import CompletionFormat, Envelope, JsonObject, Usage
from deployments.api.scored_pool import ScoredPool
from engine.protocol import TokenLogprob
from tests.deployments.fake_model import ByteTokenizer

USAGE = Usage(1, 1, 0)


class WatchedFormat(CompletionFormat):
    """Notes in which thread it writes."""

    def whole(self, *args: object) -> JsonObject:
        wrote_in.append(threading.current_thread())
        return super().whole(*args)  # type: ignore[arg-type]

    def chunks(self, part: Part) -> list[JsonObject]:
        wrote_in.append(threading.current_thread())
        return super().chunks(part)


wrote_in: list[threading.Thread] = []


@pytest.fixture
async def pool() -> AsyncIterator[ScoredPool]:
    wrote_in.clear()
    pool = ScoredPool(num_threads=1, max_pending=1)
    yield pool
    pool.close()


def writer_with(pool: ScoredPool) -> AnswerWriter:
    return AnswerWriter(WatchedFormat(Envelope("cmpl-1", 0, "m"), ByteTokenizer(), num_logprobs=1), pool, key=0.0)


def part_of(num_tokens: int) -> Part:
    """Each token with one alternative."""
    logprobs = [TokenLogprob(65, -0.5, [(65, -0.5)])] * num_tokens
    return Part(0, is_first=True, text="A" * num_tokens, token_ids=[65] * num_tokens, logprobs=logprobs)


async def test_what_is_short_is_written_where_it_stands(pool: ScoredPool) -> None:
    part = part_of(MAX_INLINE_LOGPROBS // 2)
    await writer_with(pool).whole([part], USAGE, 0.1)
    await writer_with(pool).events(part)

    assert wrote_in == [threading.current_thread()] * 2


async def test_what_is_long_is_written_in_the_pool_whole_and_streamed(pool: ScoredPool) -> None:
    part = part_of(MAX_INLINE_LOGPROBS // 2 + 1)
    whole = json.loads(await writer_with(pool).whole([part], USAGE, 0.1))
    streamed = json.loads((await writer_with(pool).events(part)).removeprefix(b"data: "))

    assert threading.current_thread() not in wrote_in
    assert whole["choices"][0]["logprobs"] == streamed["choices"][0]["logprobs"]
    assert len(whole["choices"][0]["logprobs"]["tokens"]) == MAX_INLINE_LOGPROBS // 2 + 1


async def test_echoed_prompt_tokens_count_as_well(pool: ScoredPool) -> None:
    part = part_of(0)
    part.prompt_logprobs = [TokenLogprob(65, -0.5, [(65, -0.5)])] * MAX_INLINE_LOGPROBS
    await writer_with(pool).whole([part], USAGE, 0.1)

    assert threading.current_thread() not in wrote_in


async def test_a_full_pool_loses_no_answer(pool: ScoredPool) -> None:
    gate, taken = threading.Event(), threading.Event()

    def hold() -> bool:
        taken.set()
        return gate.wait(20)

    held = asyncio.create_task(pool.run(9.0, hold))
    await asyncio.to_thread(taken.wait, 20)
    better = asyncio.create_task(pool.run(9.0, int))
    await asyncio.sleep(0)

    written = await asyncio.wait_for(writer_with(pool).whole([part_of(MAX_INLINE_LOGPROBS)], USAGE, 0.1), 20)

    assert json.loads(written)["object"] == "text_completion"
    gate.set()
    await asyncio.gather(held, better)
