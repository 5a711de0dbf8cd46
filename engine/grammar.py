"""Owns which tokens a grammar lets come next. Knows nothing of logits, of batches, or of who wrote the grammar.

What is allowed is a function of the grammar and of the output tokens so far, so that a sequence that was moved goes on
where it was: its tokens are followed anew. All work has a limit that does not depend on the clock; what would pass it
fails that one sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from numpy.typing import NDArray

MAX_REASON_CHARACTERS = 300
#: Of one answer. Fuel is work: about 14,000 units a millisecond while a mask is computed. A state takes 0.2 kB, up to
#: 2 kB where a pattern tells many letters apart; a string of bounded length takes five for each character.
_LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=100_000,
    step_max_items=50_000,
    max_lexer_states=50_000,
    max_grammar_size=50_000,
    precompute_large_lexemes=False,
    verbose_errors=False,
)
_SILENT = 0


class GrammarRefused(ValueError):
    """This grammar cannot be followed: it is wrong, nothing fits it, or it asks for too much. The client reads why."""


class GrammarUnserved(GrammarRefused):
    """Nobody here can follow it, whatever it says: no client is to blame."""


class GrammarTooCostly(GrammarRefused):
    """It takes more time or memory than one grammar may."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a grammar is written over. definition: as in `tokenizer.json`. eos_token_ids: what may end an answer."""

    definition: str
    eos_token_ids: tuple[int, ...]

    def tokenizer(self) -> LLTokenizer:
        """Takes a good part of a second.

        Raises:
            GrammarRefused: grammars cannot be followed with this tokenizer.
        """
        if not self.eos_token_ids:
            raise GrammarRefused("the model has no end-of-sequence token, and a grammar must be able to end an answer")
        try:
            return LLTokenizer(self.definition, eos_token=list(self.eos_token_ids))
        except ValueError as error:
            raise GrammarRefused(f"the model's tokenizer takes no grammar: {shortened(str(error))}") from error


class Guide:
    """Follows one answer. It never raises: a guide that has failed allows nothing, and `failure` says why."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        return self._failure

    @property
    def is_over_limits(self) -> bool:
        return self._failure is not None and self._matcher.is_error()

    def push(self, token_ids: Sequence[int]) -> None:
        """The answer goes on with these tokens."""
        if self._failure is None and self._matcher.try_consume_tokens(list(token_ids)) < len(token_ids):
            self._failure = shortened(self._matcher.get_error()) or "the answer left the grammar"

    def allowed(self, num_tokens: int) -> NDArray[np.bool_]:
        """For each of `num_tokens` token ids, whether it may come next; only ends may once the answer is complete."""
        allowed = np.zeros(num_tokens, dtype=np.bool_)
        if self._failure is not None:
            return allowed
        mask = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            self._failure = shortened(self._matcher.get_error()) or "the grammar could not be followed"
            return allowed
        bits = np.unpackbits(np.frombuffer(mask, dtype=np.uint8), bitorder="little")[:num_tokens]
        allowed[: len(bits)] = bits
        return allowed


class Grammars:
    """Compiles grammars over one vocabulary. load: gives it when the first grammar comes.

    Nothing compiled is kept. llguidance's copies share what they have learnt of their grammar, and its limit: answers
    that follow copies use it up together, and from then on every one of them fails.
    """

    def __init__(self, load: Callable[[], Vocabulary]) -> None:
        self._load = load
        self._tokenizer: LLTokenizer | None = None

    def warm(self) -> LLTokenizer:
        """Reads the vocabulary, once. Raises GrammarRefused."""
        if self._tokenizer is None:
            self._tokenizer = self._load().tokenizer()
        return self._tokenizer

    def guide(self, grammar: str, output_token_ids: Sequence[int] = ()) -> Guide:
        """For an answer that has these tokens already. Long: it compiles.

        Raises:
            GrammarRefused: nothing can follow this grammar.
        """
        guide = Guide(compiled(self.warm(), grammar))
        guide.push(output_token_ids)
        return guide


def compiled(tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
    """A matcher that has seen nothing yet.

    Raises:
        GrammarRefused: the grammar is wrong, or larger than the limits.
    """
    matcher = LLMatcher(tokenizer, grammar, log_level=_SILENT, limits=_LIMITS)
    if matcher.is_error():
        raise GrammarRefused(shortened(matcher.get_error()))
    return matcher


def shortened(reason: str) -> str:
    """The first lines of what llguidance says, without the state of the parser or a backtrace."""
    said = reason.split("\n<")[0].strip()
    if said.startswith("panic"):
        return "it is too complex"
    return said if len(said) <= MAX_REASON_CHARACTERS else said[: MAX_REASON_CHARACTERS - 3] + "..."
