"""Owns who gets how many of a step's tokens. Knows nothing of slots, blocks or who was admitted, and no clock."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from collections.abc import Sequence as Many

from scheduling.batch_plan import MIN_PREFILL_TOKENS, BatchLimits, Plan, Slice
from scheduling.cost_model import EngineCosts
from scheduling.sequence import Sequence

#: Whether the second would give way to the first.
Outranks = Callable[[Sequence, Sequence], bool]


class TokenShare:
    """Shares out each step's token budget: decodes first, then as much of each prompt as is left, best keys first.

    A prompt gets no more than the decodes beside it bear (`BatchLimits.max_decode_stretch`), several prompts somewhat
    more together, but for those that outrank all these decodes. Where the first token of the best prompt comes in this
    very step if the decodes that it outranks sit it out, they do; never in two steps in a row, so that they get on.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._decodes_sat_out = False  # in the last step
        self._on_trial: Sequence | None = None

    def out(self, plan: Plan, running: Many[Sequence], costs: EngineCosts, outranks: Outranks) -> None:
        """Fill the plan's slices. running: best first. One suspect is computed at a time, until it has a token; the
        decodes bear as much for it as for all who wait."""
        budget, decode, prefills, has_suspect = self._limits.max_num_batched_tokens, plan.decode, [], False
        for sequence in running:
            start = sequence.num_computed
            if len(sequence.token_ids) - start > 1 or sequence.is_suspect:
                prefills.append(sequence)
                has_suspect = has_suspect or sequence.is_suspect
            elif budget:
                decode.append(Slice(sequence, start, 1, True))
                budget -= 1
        num_waiting = len(prefills)
        if has_suspect:
            prefills = self._with_one_suspect(prefills)
        if not prefills:
            self._decodes_sat_out = False
        elif not self._share_with_peers(plan, prefills, costs, outranks):
            num_free = self._num_free(plan, prefills, outranks)
            patience_s = self._patience_s(len(decode), num_waiting - num_free, costs)
            self._fill(plan, prefills, num_free, patience_s, costs)

    def rest(self) -> None:
        """A step without prompts, which nothing had to be shared out in."""
        self._decodes_sat_out = False

    def _with_one_suspect(self, prefills: Many[Sequence]) -> list[Sequence]:
        """All who are not suspect, and the suspect who was computed before: a better one must wait for its end, for if
        the engine died now, both would be blamed."""
        suspects = [sequence for sequence in prefills if sequence.is_suspect]
        if self._on_trial not in suspects:
            self._on_trial = suspects[0]
        return [each for each in prefills if not each.is_suspect or each is self._on_trial]

    def _share_with_peers(self, plan: Plan, prefills: Many[Sequence], costs: EngineCosts, outranks: Outranks) -> bool:
        """Fills the step with the best prompt whole, and with none of the decodes that it outranks; false if it does
        not come to that. The decodes that it does not outrank bear no longer a step than they bear of all decodes."""
        decode, best = plan.decode, prefills[0]
        num_peers = bisect_left(decode, True, key=lambda part: outranks(best, part.sequence))  # they come first
        patience_s = self._patience_of(num_peers, len(decode), costs)
        sits_out = num_peers < len(decode) and not self._decodes_sat_out
        self._decodes_sat_out = sits_out and self._is_whole(best, num_peers, patience_s, costs)
        if not self._decodes_sat_out:
            return False
        first_out = decode[num_peers].sequence
        decode[num_peers:] = []
        prompts = [each for each in prefills if outranks(each, first_out)]
        self._fill(plan, prompts, 0 if patience_s is not None else len(prompts), patience_s, costs)
        return True

    def _num_free(self, plan: Plan, prefills: Many[Sequence], outranks: Outranks) -> int:
        """How many of the prompts, the first ones, outrank all decodes."""
        if not plan.decode:
            return len(prefills)
        best = plan.decode[0].sequence
        return bisect_left(prefills, True, key=lambda each: not outranks(each, best))

    def _is_whole(self, prompt: Sequence, num_decodes: int, patience_s: float | None, costs: EngineCosts) -> bool:
        """Whether its first token can come in a step beside so many decodes."""
        if prompt.wants_prompt_logits or prompt.num_pending > self._limits.max_num_batched_tokens - num_decodes:
            return False
        return patience_s is None or costs.prefill_s(prompt.num_pending, prompt.num_computed) <= patience_s

    def _fill(
        self, plan: Plan, prompts: Many[Sequence], num_free: int, patience_s: float | None, costs: EngineCosts
    ) -> None:
        """num_free: so many of the prompts, the first ones, need not spare the decodes. patience_s: of the decodes."""
        num_logits, budget = self._limits.max_num_prompt_logits, self._limits.max_num_batched_tokens - len(plan.decode)
        least = MIN_PREFILL_TOKENS  # for the first of those that must spare the decodes
        for place, sequence in enumerate(prompts):
            num_tokens = min(sequence.num_pending, budget)
            if sequence.wants_prompt_logits:
                num_tokens = min(num_tokens, num_logits)
            if place >= num_free and patience_s is not None:
                borne = costs.prefill_within(patience_s, sequence.num_computed)
                num_tokens, least = min(num_tokens, max(borne, least)), 0
                patience_s -= costs.prefill_s(num_tokens, sequence.num_computed)
            if num_tokens:
                is_all = num_tokens == sequence.num_pending
                plan.prefill.append(Slice(sequence, sequence.num_computed, num_tokens, is_all))
                budget -= num_tokens
                num_logits -= num_tokens * sequence.wants_prompt_logits

    def _patience_s(self, num_decodes: int, num_prompts: int, costs: EngineCosts) -> float | None:
        """Seconds of prefill that the step's decodes bear beside them; None: any.

        Longer steps hurt each decode, shorter ones each prompt that has to wait for its turn: where one cost grows with
        the length and the other with its inverse, the best length grows with the root of those who wait.
        """
        stretch = self._limits.max_decode_stretch
        if stretch is None or not num_decodes or costs.decode_step_s is None:
            return None
        return (stretch - 1) * math.sqrt(num_prompts) * costs.decodes_s(num_decodes)

    def _patience_of(self, num_peers: int, num_decodes: int, costs: EngineCosts) -> float | None:
        """Seconds of prefill that some of the decodes bear while the others sit out; None: any."""
        stretch = self._limits.max_decode_stretch
        if stretch is None or not num_peers or costs.decode_step_s is None:
            return None
        return stretch * costs.decodes_s(num_decodes) - costs.decodes_s(num_peers)
