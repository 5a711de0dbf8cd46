"""Owns one replica on virtual time: the real batcher, fed with sequences whose lengths are known. Knows no queue.

All use of `scheduling.batcher` is here. Steps that only decode are done many at a time, up to the next that decides
something: an end, a prompt, a shortage of blocks.
"""

from __future__ import annotations

from scheduling.batch_plan import Plan, Slice
from scheduling.batcher import Batcher
from scheduling.preemption import PreemptionCounts
from scheduling.sequence import Sequence
from simulation.activity import Activity
from simulation.answer import Answer
from simulation.counted_blocks import CountedBlocks
from simulation.decoding import Decoding
from simulation.engine_messages import Command, Gone, Move, Progress, Resume, Work
from simulation.engine_model import EngineModel, num_context_tokens
from simulation.pace import Pace, Run, Step
from simulation.replica_shape import ReplicaShape
from simulation.step_tape import StepTape

_TOKEN = 0  # what a token is does not matter here; whose it is stands in its sequence's salt


class SimulatedReplica:
    """Steps from when there is work, one after another. Whoever drives it calls `advance` at `due_s`."""

    def __init__(self, replica_id: str, shape: ReplicaShape, engine: EngineModel, tape: StepTape, place: int) -> None:
        self.replica_id = replica_id
        self.shape = shape
        self.activity = Activity()
        self._pace = Pace(engine, tape, place)
        pool = CountedBlocks(shape.num_blocks, shape.block_size, shape.num_swap_slots)
        self._batcher = Batcher(shape.limits, pool)
        self._batcher.hold_displaced(shape.holds_displaced)
        self._answers: dict[str, Answer] = {}
        self._decoding = Decoding()
        self._decoding_is_known = True
        self._inbox: list[Command] = []
        self._moved: list[Gone] = []  # since the last step
        self._num_added = 0
        self._doing: Step | Run | None = None
        self._due_s: float | None = None

    @property
    def due_s(self) -> float | None:
        """When the present step, or the last of a run of them, ends; None while nothing is to be done."""
        return self._due_s

    @property
    def num_running(self) -> int:
        return self._batcher.num_running

    @property
    def num_parked(self) -> int:
        return self._batcher.num_parked

    @property
    def num_held(self) -> int:
        """Sequences that have come and not ended."""
        return len(self._answers) + len(self._inbox)

    @property
    def preemptions(self) -> PreemptionCounts:
        return self._batcher.preemptions

    def num_served_by(self, now_s: float) -> int:
        """Tokens of prompts and answers, those of the steps of a present run that have ended by then among them."""
        run = self._doing
        if not isinstance(run, Run):
            return self.activity.num_served
        return self.activity.num_served + self._pace.num_ended(run, now_s) * self._batcher.num_running

    def accept(self, command: Command, now_s: float) -> None:
        """The engine hears of it, and looks at it when the present step ends, which may be sooner than `due_s` was.

        An idle engine is due at once: whoever else comes at the same moment is in the same step.
        """
        self._inbox.append(command)
        if self._due_s is None:
            self._due_s = now_s
        elif isinstance(self._doing, Run):
            self._shorten(self._doing, now_s)

    def advance(self) -> Progress:
        """The present step ends, and the next begins.

        Raises:
            NeverFits: what has come is larger than the KV cache.
        """
        assert self._due_s is not None, f"{self.replica_id} has nothing to do"
        progress = Progress() if self._doing is None else self._end(self._doing)
        self._begin(self._due_s)
        if self._moved and self._doing is None:  # nobody else does anything: this is told at once
            progress.moved.extend(self._moved)
            self._moved.clear()
        return progress

    def _begin(self, now_s: float) -> None:
        """The next step, or as many as can be done at once; none where there is nothing to do."""
        has_news = bool(self._inbox)
        for command in self._inbox:
            self._take(command)
        self._inbox.clear()
        if not self._batcher.has_work:
            self._doing = self._due_s = None
            return
        self._doing = (None if has_news else self._next_run(now_s)) or self._next_step()
        self._due_s = now_s + self._doing.took_s

    def _end(self, doing: Step | Run) -> Progress:
        self._count(doing)
        progress = Progress(moved=self._moved)
        self._moved = []
        if isinstance(doing, Run):
            self._end_run(doing, progress)
        else:
            self._end_step(doing, progress)
        return progress

    def _take(self, command: Command) -> None:
        match command:
            case Work():
                self._add(command)
            case Resume(lease_id, stamp):
                self._batcher.resume(lease_id, stamp)
            case Move(lease_id):
                self._moved.append(self._leave(lease_id))

    def _add(self, work: Work) -> None:
        sequence = Sequence(
            seq_id=work.lease_id,
            stamp=work.stamp,
            token_ids=[_TOKEN] * (work.num_prompt_tokens + work.num_done),
            num_prompt_tokens=work.num_prompt_tokens,
            max_num_tokens=min(work.num_prompt_tokens + work.max_output_tokens, self.shape.max_model_len),
            salt=work.lease_id,
            reuse_prefix=self.shape.reuse_prefix,
        )
        self._batcher.set_policy(work.policy)
        self._batcher.add(sequence)
        end = min(work.num_prompt_tokens + work.num_output_tokens, sequence.max_num_tokens)
        self._num_added += 1
        self._answers[work.lease_id] = Answer(sequence, (-work.policy.key(work.stamp), self._num_added), end)

    def _leave(self, lease_id: str) -> Gone:
        sequence = self._batcher.finish(lease_id)
        del self._answers[lease_id]
        return Gone(lease_id, sequence.num_output_tokens, sequence.num_served)

    # One step

    def _next_step(self) -> Step:
        decoding = self._decoding
        plan = self._batcher.plan(self._pace.costs)
        assert plan.decode or plan.prefill, f"{self.replica_id}: sequences wait, and nothing was planned"
        if plan.preempted or len(plan.decode) not in (0, len(decoding)):
            self._decoding_is_known = False
        return self._pace.step(plan, self._num_context_tokens(plan))

    def _num_context_tokens(self, plan: Plan) -> int:
        return self._decoding.num_context_tokens if self._decoding_is_known else num_context_tokens(plan)

    def _end_step(self, step: Step, progress: Progress) -> None:
        progress.preempted.extend(sequence.seq_id for sequence in step.plan.preempted)
        progress.held.extend(sequence.seq_id for sequence in step.plan.held)
        if self._decoding_is_known:
            self._end_decodes(step.plan, progress)
            self._end_parts(step.plan.prefill, progress)
        else:
            self._end_parts(step.plan.slices, progress)
            self._find_decoding()
        progress.fallen.extend((each.seq_id, each.stamp.level) for each in self._batcher.take_fallen())

    def _end_decodes(self, plan: Plan, progress: Progress) -> None:
        """All of those who decode, or none."""
        if plan.decode:
            self.activity.num_served += len(plan.decode)
            self._batcher.record_decodes(plan.decode, _TOKEN)
            progress.ended.extend(map(self._leave, self._decoding.go_on(1)))

    def _end_parts(self, parts: list[Slice], progress: Progress) -> None:
        for part in parts:
            self._batcher.record(part, _TOKEN if part.completes else None)
            answer = self._answers[part.sequence.seq_id]
            if not answer.has_begun:
                self.activity.num_served += answer.newly_computed_of_prompt()
            if part.completes:
                self._has_token(answer, progress)

    def _has_token(self, answer: Answer, progress: Progress) -> None:
        """One more, and not as one of those who are known to decode."""
        self.activity.num_served += 1
        if not answer.has_begun:
            answer.has_begun = True
            progress.begun.append(answer.sequence.seq_id)
        if answer.num_to_come <= 0:
            progress.ended.append(self._leave(answer.sequence.seq_id))
        elif self._decoding_is_known:
            self._joins(answer)

    def _find_decoding(self) -> None:
        """Who decodes, found out anew."""
        self._decoding.clear()
        for answer in self._answers.values():
            if answer.decodes:
                self._joins(answer)
        self._decoding_is_known = True

    def _joins(self, answer: Answer) -> None:
        sequence = answer.sequence
        self._decoding.join(sequence.seq_id, answer.rank, len(sequence.token_ids), answer.num_to_come)

    # Many steps

    def _next_run(self, now_s: float) -> Run | None:
        """As many steps as nobody ends in before the last of them; None where the next is not one of decodes alone."""
        num_running = self._batcher.num_running
        if self.shape.max_skip == 1 or not num_running or len(self._decoding) != num_running:
            return None
        most = min(self.shape.max_skip, self._pace.most_steps, self._decoding.num_rounds_left())
        if not (num_steps := self._batcher.num_steady_steps(most)):
            return None
        return self._pace.run(now_s, num_steps, num_running, self._decoding.num_context_tokens)

    def _shorten(self, run: Run, now_s: float) -> None:
        """It goes on to the end of the step in which somebody has come."""
        shorter = self._pace.shortened(run, now_s)
        if shorter is not run:
            self._doing, self._due_s = shorter, run.began_s + shorter.took_s

    def _end_run(self, run: Run, progress: Progress) -> None:
        self.activity.num_served += run.num_steps * self._batcher.num_running
        self._batcher.skip_steady_steps(run.num_steps, _TOKEN)
        progress.ended.extend(map(self._leave, self._decoding.go_on(run.num_steps)))

    # The account

    def _count(self, doing: Step | Run) -> None:
        took_s, num_steps = doing.took_s, doing.num_steps
        self.activity.busy_s += took_s
        self.activity.slot_s += took_s * self._batcher.num_running
        self.activity.num_steps += num_steps
        self._pace.done(doing)
