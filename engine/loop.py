"""Turns commands into steps, and steps into messages. Knows nothing of sockets, models or processes.

A step reads: plan, execute, update, publish. Synchronous and without threads: whoever drives the loop decides when a
step happens, so tests drive it by hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

from engine.config import EngineConfig
from engine.grammar import GrammarRefused, Grammars, GrammarUnserved
from engine.guide_maker import GuideMaker, GuideOrder
from engine.intake import RequestRefused, accept, failed, finish_reason, resolve_stops
from engine.protocol import (
    Chunk,
    CommandMessage,
    EngineCapacity,
    EngineRequest,
    EngineStats,
    FinishReason,
    Guide,
    InferenceEngine,
    Sampled,
    SamplingParams,
    SequenceOutput,
    StepMessage,
    TokenLogprob,
)
from scheduling.batch_plan import BatchLimits, Plan, Slice
from scheduling.batcher import Batcher
from scheduling.errors import NeverFits
from scheduling.kv_blocks import BlockPool
from scheduling.measured_costs import MeasuredCosts
from scheduling.sequence import Sequence

#: Times as many as an engine holds may wait for their guides: the next ones come before those who leave have left.
_MAX_UNGUIDED = 4
#: Says something before the step is done.
Tell = Callable[[StepMessage], None]
#: Runs a step over so many tokens inside; see `engine.watchdog`.
Watch = Callable[[int], AbstractContextManager[None]]


class EngineFailed(RuntimeError):
    """The engine as a whole is broken; its cause says why. Whoever drives the loop sends `last_message` and stops."""

    def __init__(self, last_message: StepMessage) -> None:
        super().__init__("the engine failed; every sequence has ended")
        self.last_message = last_message


@dataclass(slots=True)
class _Answer:
    """What the loop keeps of a sequence beside its place in the batch."""

    sequence: Sequence
    sampling: SamplingParams
    guide: Guide | None = None
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_done: bool = False
    num_prompt_counted: int = 0


class EngineLoop:
    """Continuous batching over one `InferenceEngine`: sequences join and leave at every step.

    A sequence that has a grammar joins when its guide is made: `guides` makes it, beside the steps.
    A fault of one sequence ends that sequence. A fault of the engine ends all of them and is raised (`EngineFailed`).
    """

    def __init__(
        self,
        engine: InferenceEngine,
        config: EngineConfig,
        grammars: Grammars | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
        watch: Watch = lambda num_tokens: nullcontext(),
        tell: Tell = lambda message: None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._watch = watch
        self._tell = tell
        self._capacity = engine.capacity()
        self._prefix_caching = config.prefix_caching
        self._pool = BlockPool(self._capacity.num_blocks, self._capacity.block_size, self._capacity.num_swap_slots)
        self._costs = MeasuredCosts(self._capacity.block_bytes)
        limits = BatchLimits(
            max_num_seqs=self._capacity.max_num_seqs,
            max_num_batched_tokens=self._capacity.max_num_batched_tokens,
            parked_limit=config.parked_limit,
            preemption_margin_levels=config.preemption_margin_levels,
            preemption=config.preemption,
            max_decode_stretch=config.max_decode_stretch,
        )
        self._batcher = Batcher(limits, self._pool)
        self._answers: dict[str, _Answer] = {}
        max_unguided = _MAX_UNGUIDED * (self._capacity.max_num_seqs + config.parked_limit)
        self.guides: GuideMaker[_Answer] = GuideMaker(grammars, max_unguided)
        self._outputs: list[SequenceOutput] = []  # since the last message
        self._num_steps = self._prompt_tokens = self._generation_tokens = 0

    @property
    def capacity(self) -> EngineCapacity:
        return self._capacity

    @property
    def has_work(self) -> bool:
        """Whether a step would compute or say anything. What waits for guides alone has none until one is made."""
        return self._batcher.has_work or bool(self._outputs) or self.guides.has_made

    @property
    def is_idle(self) -> bool:
        """Whether no sequence is left, not even one that is held, or waits for its guide."""
        return len(self._batcher) == 0 and not self.guides.lease_ids

    @property
    def stats(self) -> EngineStats:
        preemptions = self._batcher.preemptions
        return EngineStats(
            num_running=self._batcher.num_running,
            num_waiting=self._batcher.num_waiting + len(self.guides.lease_ids),
            num_parked=self._batcher.num_parked,
            kv_blocks_used=self._pool.num_used,
            kv_blocks_total=self._pool.num_blocks,
            num_steps=self._num_steps,
            num_preemptions=preemptions.num_by_swap + preemptions.num_by_recompute,
            prompt_tokens=self._prompt_tokens,
            generation_tokens=self._generation_tokens,
            num_preemptions_by_swap=preemptions.num_by_swap,
            num_preemptions_by_recompute=preemptions.num_by_recompute,
            num_recomputed_tokens=preemptions.num_recomputed_tokens,
            num_blocks_swapped_out=preemptions.num_blocks_out,
            num_blocks_swapped_in=preemptions.num_blocks_in,
        )

    def apply(self, command: CommandMessage) -> None:
        """Take in what has happened outside. It may be repeated: known leases, and ended ones, are left alone."""
        for request in command.added:
            if request.lease_id not in self._answers and request.lease_id not in self.guides.lease_ids:
                self._add(request)
        for lease_ids, reason in ((command.cancelled, FinishReason.CANCELLED), (command.moved, FinishReason.MOVED)):
            for lease_id in lease_ids:
                self._finish_if_held(SequenceOutput(lease_id, finish_reason=reason))
        if command.resumes_all:
            self._batcher.hold_displaced(False)
        if command.holds_displaced is not None:
            self._batcher.hold_displaced(command.holds_displaced)
        for lease_id, stamp in command.resumed:
            self._batcher.resume(lease_id, stamp)

    def step(self) -> StepMessage:
        """Run one iteration and say what it gave.

        Raises:
            EngineFailed: the engine is broken, and every sequence has ended with an error.
        """
        # 1. Plan
        self._take_guides()
        plan = self._batcher.plan(self._costs.latest)
        slices = plan.slices
        self._announce(plan)
        # 2. Execute
        sampled = self._execute(plan, slices)
        # 3. Update
        for part in slices:
            self._update(part, sampled.get(part.sequence.seq_id))
        # 4. Publish
        return self._publish([sequence.seq_id for sequence in plan.held])

    def check_idle(self) -> None:
        """Check the books when nothing is left: every block and every swap slot must have come back.

        Raises:
            BlockPoolCorrupt: they do not balance.
        """
        assert not self._answers, f"{len(self._answers)} sequences are left"
        self._pool.check_integrity()
        assert self._pool.num_used == 0, f"{self._pool.num_used} KV blocks have no owner"
        assert self._pool.swap.num_used == 0, f"{self._pool.swap.num_used} swap slots have no owner"

    def _add(self, request: EngineRequest) -> None:
        self._batcher.set_policy(request.policy)
        try:
            sequence = accept(request, self._capacity, prefix_caching=self._prefix_caching)
            sampling = resolve_stops(request.sampling, self._capacity.eos_token_ids)
            reason = None if sampling.prompt_logprobs is not None else finish_reason(sequence, sampling)
            if reason is not None:
                self._outputs.append(SequenceOutput(request.lease_id, finish_reason=reason))
            elif sampling.grammar is None:
                self._begin(_Answer(sequence, sampling))
            else:
                key = request.policy.key(request.stamp)
                answer = _Answer(sequence, sampling)
                self.guides.ask(GuideOrder(request.lease_id, answer, key, sampling.grammar, request.output_token_ids))
        except RequestRefused as refusal:
            self._outputs.append(failed(request.lease_id, str(refusal)))
        except GrammarRefused as refusal:
            self._outputs.append(_grammar_failed(request.lease_id, refusal))

    def _begin(self, answer: _Answer) -> None:
        lease_id = answer.sequence.seq_id
        try:
            self._batcher.add(answer.sequence)
            self._answers[lease_id] = answer
        except NeverFits as refusal:
            self._outputs.append(failed(lease_id, str(refusal)))

    def _take_guides(self) -> None:
        for made in self.guides.take() if self.guides.has_made else []:
            if isinstance(made.outcome, GrammarRefused):
                self._outputs.append(_grammar_failed(made.order.lease_id, made.outcome))
            else:
                made.order.asker.guide = made.outcome
                self._begin(made.order.asker)

    def _announce(self, plan: Plan) -> None:
        """Says who is suspect and computed from now on, while it can be said."""
        entering = [part.sequence.seq_id for part in plan.prefill if part.sequence.is_suspect]
        if entering:
            self._tell(StepMessage([], self.stats, entering=entering))

    def _execute(self, plan: Plan, slices: list[Slice]) -> dict[str, Sampled]:
        """What each slice gave, by sequence."""
        if not slices:
            assert not self._batcher.has_work, "sequences wait, and nothing was planned"
            return {}
        self._num_steps += 1
        try:
            with self._watch(sum(part.num_tokens for part in slices)):
                results = self._run(plan, [self._chunk(part) for part in slices])
            missing = [
                part.sequence.seq_id for part in slices if part.completes and part.sequence.seq_id not in results
            ]
            if missing:
                raise RuntimeError(f"the engine sampled nothing for {missing}")
        except Exception as fault:
            for lease_id in [*self._answers, *self.guides.lease_ids]:
                self._finish_if_held(failed(lease_id, f"the engine failed: {fault}", FinishReason.LOST))
            raise EngineFailed(self._publish()) from fault
        return results

    def _run(self, plan: Plan, chunks: list[Chunk]) -> dict[str, Sampled]:
        """Copies, computes, and takes the time of both."""
        began_s = self._clock()
        if plan.copies:
            self._engine.copy_blocks(plan.copies)
            copied_s = self._clock()
            self._costs.observe_copies(len(plan.copies), copied_s - began_s)
            began_s = copied_s
        results = self._engine.execute(chunks)
        self._costs.observe_step(plan.prefill, len(plan.decode), self._clock() - began_s)
        return {result.seq_id: result for result in results}

    def _chunk(self, part: Slice) -> Chunk:
        sequence, answer = part.sequence, self._answers[part.sequence.seq_id]
        return Chunk(
            seq_id=sequence.seq_id,
            token_ids=sequence.token_ids[part.start : part.start + part.num_tokens],
            start=part.start,
            block_table=self._pool.block_table(sequence.seq_id),
            samples=part.completes,
            sampling=answer.sampling,
            history=sequence.token_ids,
            num_prompt_tokens=sequence.num_prompt_tokens,
            guide=answer.guide,
        )

    def _update(self, part: Slice, sampled: Sampled | None) -> None:
        answer = self._answers[part.sequence.seq_id]
        if sampled is not None and sampled.error is not None:
            is_over_limits = answer.guide is not None and answer.guide.is_over_limits
            reason = FinishReason.GRAMMAR if is_over_limits else FinishReason.ERROR
            self._finish(part.sequence.seq_id, failed(part.sequence.seq_id, sampled.error, reason), forget_blocks=True)
            return
        if sampled is not None and sampled.prompt_logprobs and not answer.prompt_done:
            self._collect(answer, part, sampled.prompt_logprobs)
        if sampled is None or not part.completes:
            self._batcher.record(part)
            self._count_prompt(answer)
            return
        part.sequence.is_suspect = False
        self._advance(answer, part, sampled)

    def _count_prompt(self, answer: _Answer) -> None:
        """Each token of a prompt once, in the step that computes it: who waits goes by how fast this engine is."""
        num_reached = min(answer.sequence.num_computed, answer.sequence.num_prompt_tokens)
        self._prompt_tokens += max(0, num_reached - answer.num_prompt_counted)
        answer.num_prompt_counted = max(num_reached, answer.num_prompt_counted)

    def _collect(self, answer: _Answer, part: Slice, logprobs: list[TokenLogprob]) -> None:
        """Chunks arrive in order; one that starts over, after a preemption, replaces what was there."""
        del answer.prompt_logprobs[part.start :]
        answer.prompt_logprobs.extend(logprobs)

    def _advance(self, answer: _Answer, part: Slice, sampled: Sampled) -> None:
        """Append the token, unless the answer may have none, and tell."""
        sequence = answer.sequence
        has_room = len(sequence.token_ids) < sequence.max_num_tokens
        self._batcher.record(part, sampled.token_id if has_room else None)
        if answer.guide is not None and has_room:
            answer.guide.push(sequence.token_ids[-1:])
        self._generation_tokens += has_room
        prompt_logprobs = None
        if not answer.prompt_done:
            answer.prompt_done = True
            self._count_prompt(answer)
            prompt_logprobs = answer.prompt_logprobs if answer.sampling.prompt_logprobs is not None else None
        output = SequenceOutput(
            sequence.seq_id,
            token_ids=sequence.token_ids[-1:] if has_room else [],
            logprobs=[sampled.logprob] if has_room and sampled.logprob is not None else [],
            prompt_logprobs=prompt_logprobs,
            num_cached_tokens=sequence.num_cached or 0,
            finish_reason=finish_reason(sequence, answer.sampling),
        )
        if output.finish_reason is None:
            self._outputs.append(output)
        else:
            self._finish(sequence.seq_id, output)

    def _finish_if_held(self, output: SequenceOutput) -> None:
        if output.lease_id in self._answers:
            self._finish(output.lease_id, output)
        elif self.guides.drop(output.lease_id):
            self._outputs.append(replace(output, num_served_tokens=0))

    def _finish(self, lease_id: str, output: SequenceOutput, *, forget_blocks: bool = False) -> None:
        sequence = self._batcher.finish(lease_id, forget_blocks=forget_blocks)
        del self._answers[lease_id]
        self._outputs.append(replace(output, num_served_tokens=sequence.num_served))

    def _publish(self, held: list[str] | None = None) -> StepMessage:
        outputs, self._outputs = self._outputs, []
        fallen = [(sequence.seq_id, sequence.stamp.level) for sequence in self._batcher.take_fallen()]
        return StepMessage(outputs, self.stats, held or [], fallen)


def _grammar_failed(lease_id: str, refusal: GrammarRefused) -> SequenceOutput:
    reason = FinishReason.ERROR if isinstance(refusal, GrammarUnserved) else FinishReason.GRAMMAR
    return failed(lease_id, f"grammar: {refusal}", reason)
