"""Owns the order in one engine: who runs, who waits and who is held back, best first. Knows no slots and no blocks."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import replace

from scheduling.score import ScorePolicy, Stamp
from scheduling.sequence import Sequence, SequenceStatus


class BatchOrder:
    """One engine's sequences by key, the earlier added first where keys are equal.

    waiting: waiting and parked. running: what runs. Both best first, and to look at only. Who is held waits for
    `resume` and is in neither.
    margin_levels: by how many levels of priority one must outrank whoever gives way to it.
    """

    def __init__(self, margin_levels: float) -> None:
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.num_parked = 0
        self._margin_levels = margin_levels
        self._policy: ScorePolicy | None = None
        self._sequences: dict[str, Sequence] = {}
        self._ranks: dict[str, tuple[float, int]] = {}  # (-key, order of arrival): sorts best first
        self._held: dict[str, Sequence] = {}
        self._fallen: list[Sequence] = []
        self._num_added = 0

    def __contains__(self, seq_id: str) -> bool:
        return seq_id in self._sequences

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def num_waiting(self) -> int:
        """Who never ran."""
        return len(self.waiting) + len(self._held) - self.num_parked

    @property
    def has_levels(self) -> bool:
        """Whether what is computed may change the order."""
        return self._policy is not None and self._policy.has_levels

    def get(self, seq_id: str) -> Sequence:
        return self._sequences[seq_id]

    def set_policy(self, policy: ScorePolicy) -> bool:
        """Order everything by this policy, unless the present one has the same or a later epoch, and then say so."""
        if self._policy is not None and policy.epoch <= self._policy.epoch:
            return False
        self._policy = policy
        for seq_id, (_, order) in self._ranks.items():
            self._ranks[seq_id] = (-policy.key(self._sequences[seq_id].stamp), order)
        self.waiting.sort(key=self._rank)
        self.running.sort(key=self._rank)
        return True

    def add(self, sequence: Sequence) -> None:
        """A new sequence waits. The policy must have been set."""
        assert self._policy is not None, "set_policy comes before add"
        assert sequence.seq_id not in self._sequences, f"{sequence.seq_id} was added before"
        self._sequences[sequence.seq_id] = sequence
        self._ranks[sequence.seq_id] = (-self._policy.key(sequence.stamp), self._num_added)
        self._num_added += 1
        insort(self.waiting, sequence, key=self._rank)

    def start(self, sequence: Sequence) -> None:
        """One that waited runs."""
        self._leave_waiting(sequence)
        sequence.move_to(SequenceStatus.RUNNING)
        insort(self.running, sequence, key=self._rank)

    def park(self, sequence: Sequence, *, holds: bool) -> None:
        """One that ran waits, or is held."""
        self.running.remove(sequence)
        sequence.move_to(SequenceStatus.PARKED)
        self.num_parked += 1
        if holds:
            self._held[sequence.seq_id] = sequence
        else:
            insort(self.waiting, sequence, key=self._rank)

    def resume(self, seq_id: str, stamp: Stamp | None = None) -> None:
        """One that was held waits at its place, under this stamp if one is given; an id that is not held is fine."""
        if (sequence := self._held.pop(seq_id, None)) is not None:
            if stamp is not None:
                self._set_stamp(sequence, stamp)
            insort(self.waiting, sequence, key=self._rank)

    def resume_all(self) -> None:
        for seq_id in list(self._held):
            self.resume(seq_id)

    def remove(self, sequence: Sequence) -> None:
        """It has finished, wherever it was."""
        if sequence.status is SequenceStatus.RUNNING:
            self.running.remove(sequence)
        else:
            self._leave_waiting(sequence)
        del self._sequences[sequence.seq_id], self._ranks[sequence.seq_id]
        sequence.move_to(SequenceStatus.FINISHED)

    def note_service(self, sequence: Sequence) -> None:
        """A running one has got on: where the policy has levels, it falls by one when it has used up its quantum."""
        assert self._policy is not None
        num_served = max(sequence.num_computed, sequence.num_reached)
        if num_served - sequence.num_at_level <= self._policy.quantum(sequence.stamp.level):
            return
        sequence.num_at_level = num_served
        self.running.remove(sequence)
        self._set_stamp(sequence, replace(sequence.stamp, level=sequence.stamp.level + 1))
        insort(self.running, sequence, key=self._rank)
        self._fallen.append(sequence)

    def take_fallen(self) -> list[Sequence]:
        """Those whose level has changed since the last call."""
        fallen, self._fallen = self._fallen, []
        return fallen

    def outranks(self, one: Sequence, other: Sequence) -> bool:
        """Whether `other` would give way to `one`."""
        return self._key(other) < self._least_kept(one)

    def outranked_by(self, newcomer: Sequence) -> Iterator[Sequence]:
        """The running sequences that would give way to it, worst first."""
        least = self._least_kept(newcomer)
        for other in reversed(self.running):
            if self._key(other) >= least:
                return
            yield other

    def _least_kept(self, newcomer: Sequence) -> float:
        """The least key that does not give way to the newcomer."""
        assert self._policy is not None
        return self._key(newcomer) - self._policy.margin(self._margin_levels)

    def _rank(self, sequence: Sequence) -> tuple[float, int]:
        return self._ranks[sequence.seq_id]

    def _key(self, sequence: Sequence) -> float:
        return -self._ranks[sequence.seq_id][0]

    def _set_stamp(self, sequence: Sequence, stamp: Stamp) -> None:
        assert self._policy is not None
        sequence.stamp = stamp
        self._ranks[sequence.seq_id] = (-self._policy.key(stamp), self._ranks[sequence.seq_id][1])

    def _leave_waiting(self, sequence: Sequence) -> None:
        if self._held.pop(sequence.seq_id, None) is None:
            self.waiting.remove(sequence)
        self.num_parked -= sequence.status is SequenceStatus.PARKED
