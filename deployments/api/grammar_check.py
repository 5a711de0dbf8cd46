"""Owns asking whether an answer can follow its grammar, before anybody queues for it. Knows nothing of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from deployments.api.constraints import Constraint, constraint_of, is_bound, refused
from deployments.api.openai_schemas import ChatCompletionRequest
from deployments.api.scored_pool import ScoredPool
from deployments.errors import ApiError
from engine.grammar import GrammarRefused, GrammarTooCostly
from engine.grammar_trial import TrialBroken


class GrammarJudge(Protocol):
    """Tries a grammar, within limits; see `engine.grammar_trial`."""

    def check(self, grammar: str) -> None:
        """Blocks. Raises GrammarRefused, GrammarTooCostly, TrialBroken."""
        ...

    def first_refused(self, grammars: Sequence[str]) -> int | None:
        """Blocks no longer than for one. Raises TrialBroken."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class GrammarCheck:
    """A pool of its own, so that no costly grammar keeps others' prompts waiting."""

    pool: ScoredPool

    async def constraint_of(self, body: ChatCompletionRequest, judge: GrammarJudge, key: float) -> Constraint | None:
        """What the answers to this request have to follow; None where nothing binds them.

        Raises:
            ApiError: a 400 that names the schema, or a 503 where it could not be tried.
        """
        if not is_bound(body):
            return None
        try:
            return await self.pool.run(key, _checked, judge, body)
        except TrialBroken as fault:
            kind, code = "service_unavailable_error", "grammar_unavailable"
            raise ApiError(503, f"{fault}.", type=kind, code=code, retry_after_s=1.0) from fault


def _checked(judge: GrammarJudge, body: ChatCompletionRequest) -> Constraint:
    constraint = constraint_of(body)
    _check(judge, constraint)
    return constraint


def _check(judge: GrammarJudge, constraint: Constraint) -> None:
    try:
        judge.check(constraint.grammar)
    except GrammarTooCostly as refusal:
        raise refused(constraint.param, str(refusal)) from None
    except GrammarRefused as refusal:
        raise refused(_param_at_fault(judge, constraint), str(refusal)) from None


def _param_at_fault(judge: GrammarJudge, constraint: Constraint) -> str:
    """The field of the first schema that is refused alone as well, where there are several."""
    pieces = constraint.pieces
    place = judge.first_refused([piece.grammar() for piece in pieces]) if len(pieces) > 1 else None
    return constraint.param if place is None else pieces[place].param
