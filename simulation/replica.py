"""Owns one replica on virtual time: the real batcher, fed with sequences whose lengths are known. Knows no queue.

All use of `scheduling.batcher` is here. Steps that only decode are done many at a time, up to the next that decides
something: an end, a prompt, a shortage of blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from scheduling.batch_plan import BatchLimits, Plan
from scheduling.batcher import Batcher
from scheduling.preemption import PreemptionCounts
from scheduling.score import ScorePolicy, Stamp
from scheduling.sequence import Sequence, SequenceStatus
from simulation.counted_blocks import CountedBlocks
from simulation.decoding import Decoding, Rank
from simulation.engine_model import EngineModel, num_context_tokens
from simulation.step_tape import StepTape

_TOKEN = 0  # what a token is does not matter here; whose it is stands in its sequence's salt


@dataclass(frozen=True, slots=True)
class ReplicaShape:
    """What one replica's engine holds. max_skip: the most steps that are done at a time; 1 plans every one."""

    limits: BatchLimits
    num_blocks: int
    block_size: int = 16
    num_swap_slots: int = 0
    max_model_len: int = 8192
    reuse_prefix: bool = True
    max_skip: int = 1 << 20

    @property
    def kv_tokens(self) -> int:
        return self.num_blocks * self.block_size


@dataclass(frozen=True, slots=True)
class Work:
    """A request as the engine gets it: it ends after `num_output_tokens`, and may have `max_output_tokens`."""

    lease_id: str
    stamp: Stamp
    policy: ScorePolicy
    num_prompt_tokens: int
    num_output_tokens: int
    max_output_tokens: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What a step gave, by lease: whose first token it was, and whose last."""

    begun: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Activity:
    """What a replica has done. busy_s: in steps; slot_s: the same for each sequence in the batch."""

    busy_s: float = 0.0
    slot_s: float = 0.0
    num_steps: int = 0


@dataclass(slots=True)
class _Answer:
    sequence: Sequence
    rank: Rank
    end: int  # tokens of prompt and answer
    has_begun: bool = False

    @property
    def num_to_come(self) -> int:
        return self.end - len(self.sequence.token_ids)

    @property
    def decodes(self) -> bool:
        """Whether its next step is a decode, and not its first step of all."""
        is_running = self.has_begun and self.sequence.status is SequenceStatus.RUNNING
        return is_running and self.sequence.num_pending == 1 and self.num_to_come > 0


@dataclass(frozen=True, slots=True)
class _Step:
    """A step that was planned."""

    plan: Plan
    took_s: float
    num_steps: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class _Run:
    """Steps that only decode: as many as `most`, unless somebody comes."""

    began_s: float
    num_steps: int
    first_s: float
    growth_s: float


class SimulatedReplica:
    """Steps from when there is work, one after another. Whoever drives it calls `advance` at `due_s`."""

    def __init__(self, replica_id: str, shape: ReplicaShape, engine: EngineModel, tape: StepTape, place: int) -> None:
        self.replica_id = replica_id
        self.shape = shape
        self.activity = Activity()
        self._engine = engine
        self._costs = engine.engine_costs()
        self._tape = tape
        self._place = place % len(tape)
        pool = CountedBlocks(shape.num_blocks, shape.block_size, shape.num_swap_slots)
        self._batcher = Batcher(shape.limits, pool)
        self._answers: dict[str, _Answer] = {}
        self._decoding = Decoding()
        self._decoding_is_known = True
        self._inbox: list[Work] = []
        self._num_added = 0
        self._doing: _Step | _Run | None = None
        self._due_s: float | None = None

    @property
    def due_s(self) -> float | None:
        """When the present step, or the last of a run of them, ends; None while nothing is to be done."""
        return self._due_s

    @property
    def num_running(self) -> int:
        return self._batcher.num_running

    @property
    def num_held(self) -> int:
        """Sequences that have come and not ended."""
        return len(self._answers) + len(self._inbox)

    @property
    def preemptions(self) -> PreemptionCounts:
        return self._batcher.preemptions

    def accept(self, work: Work, now_s: float) -> None:
        """The engine has the request; it is looked at when the present step ends, which may be sooner than `due_s` was.

        An idle engine is due at once: whoever else comes at the same moment is in the same step.
        """
        self._inbox.append(work)
        if self._due_s is None:
            self._due_s = now_s
        elif isinstance(self._doing, _Run):
            self._shorten(self._doing, now_s)

    def advance(self) -> Progress:
        """The present step ends, and the next begins.

        Raises:
            NeverFits: what has come is larger than the KV cache.
        """
        assert self._due_s is not None, f"{self.replica_id} has nothing to do"
        progress = Progress() if self._doing is None else self._end(self._doing)
        self._begin(self._due_s)
        return progress

    def _end(self, doing: _Step | _Run) -> Progress:
        self._count(doing)
        progress = self._end_run(doing) if isinstance(doing, _Run) else self._end_step(doing)
        for lease_id in progress.ended:
            self._batcher.finish(lease_id)
            del self._answers[lease_id]
        return progress

    def _begin(self, now_s: float) -> None:
        """The next step, or as many as can be done at once; none where there is nothing to do."""
        has_come = bool(self._inbox)
        for work in self._inbox:
            self._add(work)
        self._inbox.clear()
        if not self._answers:
            self._doing = self._due_s = None
            return
        self._doing = (None if has_come else self._next_run(now_s)) or self._next_step()
        self._due_s = now_s + self._took_s(self._doing)

    def _add(self, work: Work) -> None:
        sequence = Sequence(
            seq_id=work.lease_id,
            stamp=work.stamp,
            token_ids=[_TOKEN] * work.num_prompt_tokens,
            num_prompt_tokens=work.num_prompt_tokens,
            max_num_tokens=min(work.num_prompt_tokens + work.max_output_tokens, self.shape.max_model_len),
            salt=work.lease_id,
            reuse_prefix=self.shape.reuse_prefix,
        )
        self._batcher.set_policy(work.policy)
        self._batcher.add(sequence)
        end = min(work.num_prompt_tokens + work.num_output_tokens, sequence.max_num_tokens)
        self._num_added += 1
        self._answers[work.lease_id] = _Answer(sequence, (-work.policy.key(work.stamp), self._num_added), end)

    # One step

    def _next_step(self) -> _Step:
        plan = self._batcher.plan(self._costs)
        assert plan.decode or plan.prefill, f"{self.replica_id}: sequences wait, and nothing was planned"
        if plan.preempted or len(plan.decode) not in (0, len(self._decoding)):
            self._decoding_is_known = False
        num_context = self._decoding.num_context_tokens if self._decoding_is_known else num_context_tokens(plan)
        return _Step(plan, self._engine.plan_s(plan, num_context) * self._tape.factor(self._place))

    def _end_step(self, step: _Step) -> Progress:
        if not self._decoding_is_known:
            return self._end_any_step(step)
        progress = Progress()
        if step.plan.decode:
            self._batcher.record_decodes(step.plan.decode, _TOKEN)
            progress.ended.extend(self._decoding.go_on(1))
        for part in step.plan.prefill:
            self._batcher.record(part, _TOKEN if part.completes else None)
            if part.completes and self._goes_on(self._answers[part.sequence.seq_id], progress):
                self._joins(self._answers[part.sequence.seq_id])
        return progress

    def _end_any_step(self, step: _Step) -> Progress:
        """One after which it has to be found out anew who decodes."""
        progress = Progress()
        for part in step.plan.slices:
            self._batcher.record(part, _TOKEN if part.completes else None)
            if part.completes:
                self._goes_on(self._answers[part.sequence.seq_id], progress)
        self._decoding.clear()
        for answer in self._answers.values():
            if answer.decodes:
                self._joins(answer)
        self._decoding_is_known = True
        return progress

    def _goes_on(self, answer: _Answer, progress: Progress) -> bool:
        """Whether the sequence, which has one more token, is to get another."""
        if not answer.has_begun:
            answer.has_begun = True
            progress.begun.append(answer.sequence.seq_id)
        if answer.num_to_come <= 0:
            progress.ended.append(answer.sequence.seq_id)
        return answer.num_to_come > 0

    def _joins(self, answer: _Answer) -> None:
        sequence = answer.sequence
        self._decoding.join(sequence.seq_id, answer.rank, len(sequence.token_ids), answer.num_to_come)

    # Many steps

    def _next_run(self, now_s: float) -> _Run | None:
        """As many steps as nobody ends in before the last of them; None where the next is not one of decodes alone."""
        num_running = self._batcher.num_running
        if self.shape.max_skip == 1 or not num_running or len(self._decoding) != num_running:
            return None
        most = min(self.shape.max_skip, len(self._tape) - self._place, self._decoding.num_rounds_left())
        if not (num_steps := self._batcher.num_steady_steps(most)):
            return None
        first_s = self._engine.decodes_s(num_running, self._decoding.num_context_tokens)
        return _Run(now_s, num_steps, first_s, num_running * self._engine.step.context_token_s)

    def _shorten(self, run: _Run, now_s: float) -> None:
        """It goes on to the end of the step in which somebody has come."""
        num_steps = self._tape.num_steps_within(
            self._place, run.num_steps, run.first_s, run.growth_s, now_s - run.began_s
        )
        if num_steps < run.num_steps:
            self._doing = shorter = _Run(run.began_s, num_steps, run.first_s, run.growth_s)
            self._due_s = run.began_s + self._took_s(shorter)

    def _end_run(self, run: _Run) -> Progress:
        self._batcher.skip_steady_steps(run.num_steps, _TOKEN)
        return Progress(ended=self._decoding.go_on(run.num_steps))

    # The account

    def _took_s(self, doing: _Step | _Run) -> float:
        if isinstance(doing, _Step):
            return doing.took_s
        return self._tape.run_s(self._place, doing.num_steps, doing.first_s, doing.growth_s)

    def _count(self, doing: _Step | _Run) -> None:
        took_s, num_steps = self._took_s(doing), doing.num_steps
        self.activity.busy_s += took_s
        self.activity.slot_s += took_s * self._batcher.num_running
        self.activity.num_steps += num_steps
        self._place = (self._place + num_steps) % len(self._tape)
