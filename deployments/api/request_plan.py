"""Owns turning token ids and validated fields into calls on a model, one a choice. Knows nothing of HTTP or queues."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from deployments.api.generation import Choice
from deployments.api.model_service import ModelService
from deployments.api.moves import Moves
from deployments.api.openai_schemas import RequestFields
from deployments.api.prompt_identity import content_of, prefixes_of
from deployments.api.standing import Standing
from deployments.api.text_assembly import TextAssembly
from deployments.errors import invalid
from deployments.generate_call import GenerateCall
from deployments.user_config import FailoverConfig
from engine.detokenizer import StopStrings
from engine.protocol import EngineRequest, SamplingParams
from scheduling.quotas import QuotaClaim
from scheduling.request import Ticket
from scheduling.score import ScorePolicy, Stamp


@dataclass(frozen=True, slots=True)
class Plan:
    """One request, ready to be queued. Choice `i` of prompt `p` has index `p * n + i`."""

    request_id: str
    model: ModelService
    standing: Standing
    prompts: list[list[int]]
    n: int
    choices: list[Choice]

    @property
    def num_prompt_tokens(self) -> int:
        return sum(map(len, self.prompts))


@dataclass(frozen=True, slots=True)
class Draft:
    """What all choices of one request share. `sampling` holds the request's seed; each choice derives its own.

    is_seed_given: the client chose the seed, so choice `i` of one prompt is sampled like choice `i` of any other prompt
        with the same text. Under a seed that was minted, no two choices share one.
    """

    request_id: str
    model: ModelService
    standing: Standing
    stamp: Stamp
    policy: ScorePolicy
    sampling: SamplingParams
    stops: tuple[str, ...] = ()
    n: int = 1
    is_seed_given: bool = False
    grammar_param: str | None = None
    failover: FailoverConfig = field(default_factory=FailoverConfig)


def plan_choices(draft: Draft, prompts: list[list[int]], budgets: Sequence[int], mint_id: Callable[[], str]) -> Plan:
    """One call for every choice of every prompt; `budgets` gives each prompt's own `max_tokens`."""
    numbered = [(prompt, number) for prompt in range(len(prompts)) for number in range(draft.n)]
    lease_ids = [mint_id() for _ in numbered]
    num_tokens = sum(len(prompts[prompt]) + budgets[prompt] for prompt, _ in numbered)
    choices = []
    for index, (prompt, number) in enumerate(numbered):
        seed_number = number if draft.is_seed_given else index
        choice = _choice(draft, index, seed_number, prompts[prompt], budgets[prompt], lease_ids[index])
        choices.append(_claiming(choice, draft.standing.account, lease_ids[0], num_tokens))
    return Plan(draft.request_id, draft.model, draft.standing, prompts, draft.n, choices)


def _claiming(choice: Choice, account: str | None, charge_id: str, num_tokens: int) -> Choice:
    """The choice with what its request is charged with: one request, and the tokens of all its choices."""
    if account is not None:
        claim = QuotaClaim(account, charge_id, num_tokens, choice.index)
        choice.call = replace(choice.call, ticket=replace(choice.call.ticket, claim=claim))
    return choice


def sampling_of(fields: RequestFields, model: ModelService, logprobs: int | None) -> SamplingParams:
    """The request's sampling; `max_tokens` is each prompt's own and set later. A seed is minted where none is given.

    Raises:
        ApiError: a token id in `logit_bias` that the model does not have.
    """
    return SamplingParams(
        max_tokens=0,
        seed=secrets.randbits(63) if fields.seed is None else fields.seed,
        temperature=fields.temperature,
        top_p=fields.top_p,
        top_k=max(0, fields.top_k),
        min_p=fields.min_p,
        min_tokens=fields.min_tokens,
        ignore_eos=fields.ignore_eos,
        stop_token_ids=() if fields.ignore_eos else model.eos_token_ids,
        presence_penalty=fields.presence_penalty,
        frequency_penalty=fields.frequency_penalty,
        repetition_penalty=fields.repetition_penalty,
        logit_bias=_logit_bias(fields, model),
        logprobs=logprobs,
    )


def choice_seed(seed: int, number: int) -> int:
    """The seed of one choice: a 63-bit number that only (seed, number) decides."""
    digest = hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def _choice(draft: Draft, index: int, number: int, prompt: list[int], budget: int, lease_id: str) -> Choice:
    sampling = replace(draft.sampling, max_tokens=budget, seed=choice_seed(draft.sampling.seed, number))
    request = EngineRequest(
        lease_id=lease_id,
        prompt_token_ids=prompt,
        sampling=sampling,
        stamp=draft.stamp,
        policy=draft.policy,
        cache_salt=draft.standing.tenant,
    )
    call = GenerateCall(_ticket(draft, request), request)
    return Choice(index, call, _assembly(draft, prompt), Moves(draft.failover), draft.grammar_param)


def _ticket(draft: Draft, request: EngineRequest) -> Ticket:
    return Ticket(
        lease_id=request.lease_id,
        request_id=draft.request_id,
        priority=draft.standing.priority,
        num_prompt_tokens=len(request.prompt_token_ids),
        max_output_tokens=request.sampling.max_tokens,
        tenant=draft.standing.tenant,
        service_class=draft.standing.service_class,
        deadline_s=draft.standing.deadline_s,
        content=content_of(request.prompt_token_ids),
        prefixes=prefixes_of(request.prompt_token_ids, request.cache_salt),
    )


def _assembly(draft: Draft, prompt: list[int]) -> TextAssembly:
    tokenizer = draft.model.tokenizer
    return TextAssembly(
        tokenizer.detokenizer(prompt),
        StopStrings(draft.stops),
        tokenizer.eos_token_ids,
        min_tokens=draft.sampling.min_tokens,
    )


def _logit_bias(fields: RequestFields, model: ModelService) -> tuple[tuple[int, float], ...]:
    bias = tuple(sorted((int(token), value) for token, value in fields.logit_bias.items()))
    if bias and bias[-1][0] >= model.vocab_size:
        message = f"logit_bias: got token id {bias[-1][0]}; expected less than {model.vocab_size}."
        raise invalid(message, "logit_bias", "invalid_value")
    return bias
