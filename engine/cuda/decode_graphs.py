"""Runs decode-only steps by replaying captured forward passes, one for each bucket of batch sizes.

Knows nothing of models, and of CUDA only that something records work and replays it (`Recorder`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from engine.attention import AttentionStep, Terms
from engine.cuda.buckets import bucket_for
from engine.cuda.decode_inputs import CacheGeometry, DecodeInputs, DecodeTensors
from engine.cuda.padding import is_decode_only
from engine.cuda.scratch import CacheWithScratch
from engine.step import Step
from engine.varlen_attention import Longest, VarlenAttention, attend_by_table

#: token_ids, positions, rows, attention -> [num_rows, vocab] logits.
Forward = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, AttentionStep], torch.Tensor]
Replay = Callable[[], None]
#: Whether what holds on this rank holds on all of them. All ranks must ask alike.
Agree = Callable[[bool], bool]


class NotCapturable(Exception):
    """Decodes of this model cannot be recorded; the message says why. They run eagerly instead."""


class Recorder(Protocol):
    """Turns work on tensors that stay where they are into something that repeats it."""

    def record(self, work: Callable[[], None]) -> Replay:
        """Runs the work at least once, and records it.

        Raises:
            NotCapturable: the work does something that cannot be recorded.
        """
        ...


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """One new token for every row of a bucket, over the paged cache; reads nothing but tensors that stay in place."""

    cache: CacheWithScratch
    tensors: DecodeTensors
    attention: VarlenAttention
    longest: Longest

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, terms: Terms
    ) -> torch.Tensor:
        """As `AttentionStep.attend`."""
        if terms.softcap is not None:
            raise NotCapturable(f"layer {layer} caps its scores, which torch's attention kernel does not")
        cache = self.cache.layers[layer]
        cache.write(self.tensors.slots, key.transpose(0, 1), value.transpose(0, 1))
        return attend_by_table(self.attention, query, cache, self.tensors.sequences, self.longest, terms)


class DecodeGraphs:
    """The recorded decodes of one rank. Every rank takes the same step and therefore the same bucket."""

    def __init__(
        self, cache: CacheWithScratch, sizes: tuple[int, ...], max_model_len: int, logits: torch.Tensor
    ) -> None:
        """logits: [largest size, vocab], float32: where every replay leaves its result."""
        self._cache = cache
        self._sizes = sizes
        width = -(-max_model_len // cache.block_size)
        self._longest = Longest(num_queries=1, num_keys=width * cache.block_size)
        geometry = CacheGeometry(cache.block_size, width, cache.scratch_block)
        self._table_width = width
        self._inputs = DecodeInputs(sizes, geometry, logits.device)
        self._logits = logits
        self._replays: dict[int, Replay] = {}

    @property
    def num_graphs(self) -> int:
        return len(self._replays)

    def record(self, forward: Forward, attention: VarlenAttention, recorder: Recorder, agree: Agree) -> None:
        """Every bucket, the largest first, so that the others fit into the memory that it took. All ranks must call it.

        Raises:
            NotCapturable: on all ranks, where one of them cannot record a bucket.
        """
        for size in reversed(self._sizes):
            problem = self._record(size, forward, attention, recorder)
            if not agree(problem is None):
                raise NotCapturable(f"a batch of {size}: {problem or 'another rank cannot'}") from problem

    def takes(self, step: Step) -> bool:
        """Whether the step can be replayed."""
        fits = bucket_for(len(step.token_ids), self._sizes) is not None
        return fits and is_decode_only(step) and max(map(len, step.tables)) <= self._table_width

    def run(self, step: Step) -> torch.Tensor:
        """[len(step.rows), vocab] logits in float32, valid until the next step."""
        size = bucket_for(len(step.token_ids), self._sizes)
        assert size is not None, f"a step of {len(step.token_ids)} rows; the largest bucket is {self._sizes[-1]}"
        self._cache.clear(self._inputs.fill(step, size))
        self._replays[size]()
        return self._logits[: len(step.rows)]

    def _record(
        self, size: int, forward: Forward, attention: VarlenAttention, recorder: Recorder
    ) -> NotCapturable | None:
        tensors = self._inputs.tensors(size)
        step = DecodeStep(self._cache, tensors, attention, self._longest)

        def work() -> None:
            self._logits[:size].copy_(forward(tensors.token_ids, tensors.positions, tensors.rows, step))

        self._inputs.fill_with_padding(size)
        try:
            self._replays[size] = recorder.record(work)
        except NotCapturable as problem:
            return problem
        return None
