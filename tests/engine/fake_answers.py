"""What the fake engine answers, why answers ended, and an engine whose results can be changed. Asserts nothing."""

from __future__ import annotations

from engine.backends.fake import fake_token
from engine.protocol import Chunk, EngineRequest, FinishReason, Sampled, SequenceOutput
from scheduling.swap_area import BlockCopies
from tests.engine.factories import make_engine


def expected_tokens(request: EngineRequest, count: int) -> list[int]:
    start = len(request.prompt_token_ids) + len(request.output_token_ids)
    return [fake_token(request.sampling.seed, position) for position in range(start, start + count)]


def reasons(outputs: list[SequenceOutput]) -> list[FinishReason]:
    return [output.finish_reason for output in outputs if output.finish_reason is not None]


class Saboteur:
    """A fake engine whose results can be changed on their way out."""

    def __init__(self) -> None:
        self._engine = make_engine()
        self.capacity = self._engine.capacity
        self.chunks: list[list[Chunk]] = []

    def execute(self, chunks: list[Chunk]) -> list[Sampled]:
        self.chunks.append(chunks)
        return [self.change(sampled) for sampled in self._engine.execute(chunks)]

    def copy_blocks(self, copies: BlockCopies) -> None: ...

    def change(self, sampled: Sampled) -> Sampled:
        return sampled

    def close(self) -> None: ...
