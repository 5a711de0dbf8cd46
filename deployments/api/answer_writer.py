"""Owns turning an answer's parts into bytes, off the event loop where that takes long. Knows nothing of sending."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from deployments.api.answer_parts import Part
from deployments.api.openai_responses import AnswerFormat, Usage
from deployments.api.scored_pool import ScoredPool
from deployments.errors import PoolFull

MAX_INLINE_LOGPROBS = 2_000  # in more, the event loop would stand still for milliseconds


@dataclass(frozen=True, slots=True)
class AnswerWriter:
    """One answer's. key: what its long parts wait under in the pool."""

    format: AnswerFormat
    pool: ScoredPool
    key: float

    async def whole(self, parts: Sequence[Part], usage: Usage, elapsed_s: float) -> bytes:
        """The answer's one document."""
        return await self._written(parts, lambda: orjson.dumps(self.format.whole(parts, usage, elapsed_s)))

    async def events(self, part: Part) -> bytes:
        """The part's server-sent events."""
        return await self._written([part], lambda: b"".join(map(as_event, self.format.chunks(part))))

    async def _written(self, parts: Sequence[Part], write: Callable[[], bytes]) -> bytes:
        if sum(part.num_logprobs for part in parts) <= MAX_INLINE_LOGPROBS:
            return write()
        try:
            return await self.pool.run(self.key, write)
        except PoolFull:
            return write()  # a pause of the event loop is less than an answer that was generated and is lost


def as_event(document: object) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(document) + b"\n\n"
