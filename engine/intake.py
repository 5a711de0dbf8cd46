"""Decides whether an engine can take a request, and turns it into a sequence. Knows nothing of plans or steps."""

from __future__ import annotations

from dataclasses import replace

from engine.protocol import EngineCapacity, EngineRequest, FinishReason, SamplingParams, SequenceOutput
from scheduling.sequence import Sequence


class RequestRefused(ValueError):
    """The request would break a step for everybody. The loop catches it and ends that request with the reason."""


def accept(request: EngineRequest, capacity: EngineCapacity, *, prefix_caching: bool) -> Sequence:
    """The sequence that the request becomes, resumed after what an earlier attempt generated.

    Raises:
        RequestRefused: a token id is not in the vocabulary, or the tokens do not fit the context.
    """
    _check_token_ids(request, capacity.vocab_size)
    num_prompt, sampling = len(request.prompt_token_ids), request.sampling
    num_needed = num_prompt + min(1, sampling.max_tokens)
    if num_needed > capacity.max_model_len:
        raise RequestRefused(
            f"prompt_token_ids: {num_prompt} tokens and an answer need {num_needed}; "
            f"max_model_len is {capacity.max_model_len}"
        )
    return Sequence(
        seq_id=request.lease_id,
        stamp=request.stamp,
        token_ids=[*request.prompt_token_ids, *request.output_token_ids],
        num_prompt_tokens=num_prompt,
        max_num_tokens=min(num_prompt + sampling.max_tokens, capacity.max_model_len),
        salt=request.cache_salt,
        reuse_prefix=prefix_caching and sampling.prompt_logprobs is None,
        wants_prompt_logits=sampling.prompt_logprobs is not None,
        is_suspect=request.is_suspect,
    )


def resolve_stops(sampling: SamplingParams, eos_token_ids: list[int]) -> SamplingParams:
    """Let `stop_token_ids` alone say what ends the answer: the model's own ends are added, or taken out if ignored."""
    if sampling.ignore_eos:
        stops = [token_id for token_id in sampling.stop_token_ids if token_id not in eos_token_ids]
    else:
        stops = sorted({*sampling.stop_token_ids, *eos_token_ids})
    return replace(sampling, stop_token_ids=tuple(stops))


def finish_reason(sequence: Sequence, sampling: SamplingParams) -> FinishReason | None:
    """Why the sequence ends with its newest token, if it does. A stop token within `min_tokens` ends nothing."""
    may_stop = sequence.num_output_tokens > sampling.min_tokens
    if may_stop and sequence.token_ids[-1] in sampling.stop_token_ids:
        return FinishReason.STOP
    if len(sequence.token_ids) >= sequence.max_num_tokens:
        return FinishReason.LENGTH
    return None


def failed(lease_id: str, error: str, reason: FinishReason = FinishReason.ERROR) -> SequenceOutput:
    """The last message of a sequence that ends with an error."""
    return SequenceOutput(lease_id, finish_reason=reason, error=error)


def _check_token_ids(request: EngineRequest, vocab_size: int) -> None:
    if not request.prompt_token_ids:
        raise RequestRefused("prompt_token_ids: expected at least one token, got none")
    for name, token_ids in (
        ("prompt_token_ids", request.prompt_token_ids),
        ("output_token_ids", request.output_token_ids),
        ("stop_token_ids", request.sampling.stop_token_ids),
        ("logit_bias", [token_id for token_id, _ in request.sampling.logit_bias]),
    ):
        for worst in (min(token_ids, default=0), max(token_ids, default=0)):
            if not 0 <= worst < vocab_size:
                raise RequestRefused(f"{name}: expected token ids from 0 to {vocab_size - 1}, got {worst}")
