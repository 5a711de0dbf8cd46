"""Owns how a step travels from rank 0 to the others: one gloo broadcast, two for a large one. Knows no models.

A rank that waits here sleeps in the kernel. When a peer dies the call raises RuntimeError.
"""

from __future__ import annotations

import torch
import torch.distributed as dist

from engine.process_group import World
from engine.step import Step, decode_words, encode_copies
from scheduling.swap_area import BlockCopies

#: Enough for 32 decodes with contexts of 2,000 tokens; what does not fit follows in a second message.
_FRAME_WORDS = 8192


class StepChannel:
    """Both ends: `send` and `stop` on rank 0, `receive` on the others."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._frame = torch.zeros(_FRAME_WORDS, dtype=torch.int32)

    def send(self, step: Step | BlockCopies) -> None:
        if self._world.size > 1:
            words = step.encode() if isinstance(step, Step) else encode_copies(step)
            self._send_words(torch.from_numpy(words))

    def stop(self) -> None:
        """Ends `receive` on every other rank."""
        if self._world.size > 1:
            self._send_words(torch.empty(0, dtype=torch.int32))

    def receive(self) -> Step | BlockCopies | None:
        """The next step, or what to copy before it; None when rank 0 has stopped."""
        self._broadcast(self._frame)
        num_words = int(self._frame[0])
        if num_words == 0:
            return None
        words = torch.empty(num_words, dtype=torch.int32)
        inside = min(num_words, _FRAME_WORDS - 1)
        words[:inside] = self._frame[1 : inside + 1]
        if inside < num_words:
            self._broadcast(words[inside:])
        return decode_words(words.numpy())

    def _send_words(self, words: torch.Tensor) -> None:
        inside = min(len(words), _FRAME_WORDS - 1)
        self._frame[0] = len(words)
        self._frame[1 : inside + 1] = words[:inside]
        self._broadcast(self._frame)
        if inside < len(words):
            self._broadcast(words[inside:])

    def _broadcast(self, words: torch.Tensor) -> None:
        dist.broadcast(words, src=0, group=self._world.steps)
