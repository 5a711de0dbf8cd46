"""Chooses tokens: a pure function of (seed, position, logits, history). Knows nothing of models, steps or batching.

Nothing is drawn from a generator with a state: the one uniform number that a token needs is a hash of its seed and its
position. A sequence that was preempted, or moved to another replica, therefore goes on as if nothing had happened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.counter_hash import uniform
from engine.cuda.choice import choose
from engine.protocol import Guide, Sampled, SamplingParams, TokenLogprob
from engine.token_choice import adjust, filter_rows, is_adjusted, is_filtered, scale, select_rows
from engine.token_search import TORCH_SEARCH, TokenSearch, invert

# Below this the best token has all the chance that float32 can tell; much further down the division gives 0 / 0.
MIN_TEMPERATURE = 1e-5
# What can turn sound logits into none: each of them, far out of its usual range.
RISKY_SETTINGS = ("temperature", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One row of logits: whose it is and how to choose. `history` is prompt and output; it is read and never kept."""

    seq_id: str
    sampling: SamplingParams
    history: list[int]
    num_prompt_tokens: int
    guide: Guide | None = None

    @property
    def num_output_tokens(self) -> int:
        return len(self.history) - self.num_prompt_tokens


def sample(logits: Tensor, rows: list[SampleRow], search: TokenSearch = TORCH_SEARCH) -> list[Sampled]:
    """Choose one token for each row of `logits` ([n, vocab], float32; not changed).

    A row without a finite best logit (NaN, +inf, or nothing left to choose from), from the model or after its own
    settings, gets an error; the others are served.
    """
    adjusted = _adjusted(logits, rows)
    chosen = choose_on_device(adjusted, rows) if adjusted.is_cuda else choose_on_host(adjusted, rows, search)
    logprobs = _chosen_logprobs(logits, rows, chosen)
    return [
        _unsound(row, logits[i]) if chosen[i] is None else Sampled(row.seq_id, chosen[i], logprob=logprobs.get(i))
        for i, row in enumerate(rows)
    ]


def choose_on_host(adjusted: Tensor, rows: list[SampleRow], search: TokenSearch) -> list[int | None]:
    """One token for each row, or None; after each search the host looks at what was found."""
    best = search.best(adjusted)
    chosen = [token_id if math.isfinite(value) else None for value, token_id in best]
    drawn = [i for i, row in enumerate(rows) if chosen[i] is not None and _is_drawn(row)]
    for filtered in (False, True):
        indices = [i for i in drawn if is_filtered(rows[i].sampling, adjusted.shape[-1]) is filtered]
        if indices:
            for i, token_id in zip(indices, _drawn(adjusted, rows, indices, search), strict=True):
                chosen[i] = token_id
    return chosen


def choose_on_device(adjusted: Tensor, rows: list[SampleRow]) -> list[int | None]:
    """The same, with one wait for the device, and another where a nucleus is wider than what it looks at first."""
    choices = choose(
        adjusted, [row.sampling for row in rows], [_uniform(row) if _is_drawn(row) else None for row in rows]
    )
    chosen = choices.token_ids
    if choices.undecided:
        found = _drawn(adjusted, rows, choices.undecided, TORCH_SEARCH)
        for i, token_id in zip(choices.undecided, found, strict=True):
            chosen[i] = token_id
    return chosen


def prompt_logprobs(logits: Tensor, next_token_ids: list[int], num_top: int) -> list[TokenLogprob]:
    """log p of each prompt token given what precedes it: row i of `logits` ([t, vocab]) against next_token_ids[i]."""
    return _token_logprobs(logits, next_token_ids, [num_top] * len(next_token_ids))


def _is_drawn(row: SampleRow) -> bool:
    return row.sampling.temperature >= MIN_TEMPERATURE


def _uniform(row: SampleRow) -> float:
    return uniform(row.sampling.seed, len(row.history))


def _adjusted(logits: Tensor, rows: list[SampleRow]) -> Tensor:
    """The logits after bias, penalties and grammars; a copy only where some row needs one."""
    changed = [i for i, row in enumerate(rows) if is_adjusted(row.sampling, row.num_output_tokens)]
    guided = [i for i, row in enumerate(rows) if row.guide is not None]
    if not changed and not guided:
        return logits
    adjusted = logits.clone()
    for i in changed:
        adjust(adjusted[i], rows[i].sampling, rows[i].history, rows[i].num_prompt_tokens)
    for i in guided:
        _mask(adjusted[i], rows[i])
    return adjusted


def _mask(logits: Tensor, row: SampleRow) -> None:
    """Leaves what the row's guide allows, in place."""
    assert row.guide is not None
    allowed = torch.from_numpy(row.guide.allowed(logits.shape[-1]))
    logits.masked_fill_(~allowed.to(logits.device), -math.inf)


def _drawn(adjusted: Tensor, rows: list[SampleRow], indices: list[int], search: TokenSearch) -> list[int | None]:
    """One token for each of these rows, from its softmax at its temperature."""
    params = [rows[i].sampling for i in indices]
    uniforms = [_uniform(rows[i]) for i in indices]
    logits = select_rows(adjusted, indices)
    if any(is_filtered(sampling, logits.shape[-1]) for sampling in params):
        return invert(filter_rows(scale(logits, params), params).exp_(), uniforms)
    return search.draw(logits, [sampling.temperature for sampling in params], uniforms)


def _chosen_logprobs(logits: Tensor, rows: list[SampleRow], chosen: list[int | None]) -> dict[int, TokenLogprob]:
    """By row, of the raw logits: before penalties, temperature and filters."""
    wanted = {
        i: (token_id, row.sampling.logprobs)
        for i, (row, token_id) in enumerate(zip(rows, chosen, strict=True))
        if token_id is not None and row.sampling.logprobs is not None
    }
    if not wanted:
        return {}
    indices = list(wanted)
    token_ids, num_top = ([pair[at] for pair in wanted.values()] for at in (0, 1))
    return dict(zip(indices, _token_logprobs(select_rows(logits, indices), token_ids, num_top), strict=True))


def _token_logprobs(logits: Tensor, token_ids: list[int], num_top: list[int]) -> list[TokenLogprob]:
    if not token_ids:
        return []
    logprobs = logits.float().log_softmax(-1)
    ids = torch.tensor(token_ids, dtype=torch.long, device=logits.device).unsqueeze(1)
    own: list[float] = logprobs.gather(1, ids).squeeze(1).tolist()
    top = logprobs.topk(min(max(num_top), logprobs.shape[-1]), dim=-1)
    top_ids, top_values = top.indices.tolist(), top.values.tolist()
    return [
        TokenLogprob(token_id, own[i], top=list(zip(top_ids[i], top_values[i], strict=True))[: num_top[i]])
        for i, token_id in enumerate(token_ids)
    ]


def _unsound(row: SampleRow, logits: Tensor) -> Sampled:
    """The error of a row without a token: the model's fault, or that of the row's settings."""
    position = len(row.history)
    if not bool(torch.isfinite(logits.max())):
        return Sampled(row.seq_id, None, error=f"the model gave no finite best logit at position {position}")
    if row.guide is not None and row.guide.failure is not None:
        return Sampled(row.seq_id, None, error=f"the grammar ended at position {position}: {row.guide.failure}")
    settings = ", ".join(f"{name}={getattr(row.sampling, name)!r}" for name in RISKY_SETTINGS)
    return Sampled(row.seq_id, None, error=f"nothing can be chosen at position {position} with {settings}")
