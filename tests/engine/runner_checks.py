"""What every runner must do, the modules' own and the native program's alike. Knows nothing of how either is built."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import PreTrainedModel

from engine.step import Step, arrange
from tests.engine.chunks import make_chunk
from tests.engine.playing import BLOCK_SIZE, assert_played_like, make_played, play_step
from tests.engine.tiny_models import VOCAB_SIZE

Run = Callable[[Step], torch.Tensor]


def check_a_neighbour_full_of_nan_does_no_harm(
    run: Run, poison: Callable[[list[int]], None], reference: PreTrainedModel
) -> None:
    """poison: fills what the first layer keeps in these blocks, or its keys, with NaN."""
    poisoned, sound = sequences = make_played([40, 40])
    play_step(run, sequences, [35, 20])
    poison(poisoned.block_table)
    while not sound.is_done:
        play_step(run, [each for each in sequences if not each.is_done], [1] * (1 + (not poisoned.is_done)))
    assert poisoned.logits[39].isnan().all()
    assert_played_like(reference, [sound])


def check_a_step_that_wants_no_logits_gives_none(run: Run) -> None:
    step = arrange([make_chunk(length=5, samples=False)], BLOCK_SIZE).step
    assert run(step).shape == (0, VOCAB_SIZE)
