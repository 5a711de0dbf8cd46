"""Turns a step's logits into what each chunk gets: the next token, the prompt's log probabilities. Knows no ranks."""

from __future__ import annotations

import torch

from engine.protocol import Sampled, TokenLogprob
from engine.sampler import SampleRow, prompt_logprobs, sample
from engine.step import Scheduled
from engine.token_choice import select_rows
from engine.token_search import TORCH_SEARCH, TokenSearch


def sample_all(logits: torch.Tensor, scheduled: list[Scheduled], search: TokenSearch = TORCH_SEARCH) -> list[Sampled]:
    """One `Sampled` for each chunk that samples or reports its prompt, in order."""
    sampling = sorted((place for place in scheduled if place.chunk.samples), key=lambda place: place.first_row)
    chosen = _choose(logits, sampling, search)
    return [
        Sampled(
            seq_id=place.chunk.seq_id,
            token_id=found.token_id if found else None,
            logprob=found.logprob if found else None,
            prompt_logprobs=_of_prompt(logits, place),
            error=found.error if found else None,
        )
        for place in scheduled
        if (found := chosen.get(place.chunk.seq_id)) or place.num_prompt_rows
    ]


def _choose(logits: torch.Tensor, places: list[Scheduled], search: TokenSearch) -> dict[str, Sampled]:
    if not places:
        return {}
    rows = [
        SampleRow(chunk.seq_id, chunk.sampling, chunk.history, chunk.num_prompt_tokens, chunk.guide)
        for chunk in (place.chunk for place in places)
    ]
    indices = [place.first_row + place.num_prompt_rows for place in places]  # ascending: all of them are all rows
    chosen_rows = select_rows(logits, indices)
    return {found.seq_id: found for found in sample(chosen_rows, rows, search)}


def _of_prompt(logits: torch.Tensor, place: Scheduled) -> list[TokenLogprob] | None:
    chunk, num_top = place.chunk, place.chunk.sampling.prompt_logprobs
    if num_top is None or not place.num_prompt_rows:
        return None
    rows = logits[place.first_row : place.first_row + place.num_prompt_rows]
    next_token_ids = chunk.history[chunk.start + 1 : chunk.start + 1 + place.num_prompt_rows]
    return prompt_logprobs(rows, next_token_ids, num_top)
