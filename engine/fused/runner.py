"""Runs one step on this rank through the native program. Knows nothing of requests, sampling or other ranks' timing.

A row's logits do not depend on what else is in the batch, nor on how its prompt was cut into chunks: every sum is taken
in one order. (The sum over three ranks or more is gloo's own where they cannot share memory.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from engine.fused.cache import PackedKVCache
from engine.fused.library import NativeLibrary
from engine.fused.program import CompiledDecoder, Summed
from engine.fused.step_arrays import native_step
from engine.step import Step
from engine.token_search import TokenSearch

#: Sums a tensor over all ranks, in place.
AllReduce = Callable[[torch.Tensor], object]


class FusedRunner:
    """A rank's shard as a native program, and its KV cache. Every rank must run every step."""

    def __init__(
        self,
        compiled: CompiledDecoder,
        library: NativeLibrary,
        cache: PackedKVCache,
        vocab_size: int,
        all_reduce: AllReduce,
    ) -> None:
        self.cache = cache
        self.search: TokenSearch = library
        self._compiled = compiled
        self._library = library
        self._vocab_size = vocab_size
        self._all_reduce = all_reduce

    def run(self, step: Step) -> torch.Tensor:
        """Writes the step into the cache; returns [len(step.rows), vocab] logits in float32, the same on all ranks.

        They are valid until the next step.
        """
        most = self._compiled.logits.shape[0]
        assert len(step.token_ids) <= most, f"a step of {len(step.token_ids)} tokens; there is room for {most}"
        native = native_step(step, self.cache.block_size)
        partial = self._compiled.partial[: len(step.token_ids)]
        logits = self._compiled.logits[: len(step.rows)]
        for stage in self._compiled.stages:
            self._library.run(stage.ops, native.structure)
            if stage.summed is Summed.PARTIAL:
                self._all_reduce(partial)
            elif stage.summed is Summed.LOGITS and len(logits):
                self._all_reduce(logits)
        return logits[:, : self._vocab_size]
