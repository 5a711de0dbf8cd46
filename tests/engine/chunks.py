"""Builds chunks, with defaults for all that a test does not care about. Knows nothing of any one test."""

from __future__ import annotations

from engine.protocol import Chunk, SamplingParams


def make_chunk(
    seq_id: str = "a",
    token_ids: list[int] | None = None,
    *,
    start: int = 0,
    length: int = 1,
    block_table: list[int] | None = None,
    samples: bool = True,
    prompt_logprobs: int | None = None,
    history: list[int] | None = None,
    num_prompt_tokens: int | None = None,
) -> Chunk:
    """A greedy chunk of `length` tokens (or of `token_ids`) at `start`."""
    tokens = token_ids or [2 + i % 250 for i in range(length)]
    end = start + len(tokens)
    return Chunk(
        seq_id=seq_id,
        token_ids=tokens,
        start=start,
        block_table=block_table or list(range(end // 16 + 1)),
        samples=samples,
        sampling=SamplingParams(max_tokens=8, seed=0, temperature=0, prompt_logprobs=prompt_logprobs),
        history=history or [0] * start + tokens,
        num_prompt_tokens=num_prompt_tokens or end,
    )
