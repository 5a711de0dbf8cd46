"""Bias and penalties: what they do to a row of logits, and what a long history costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from engine.protocol import SamplingParams
from engine.token_choice import adjust

VOCAB = 97


def make_logits() -> torch.Tensor:
    return torch.randn(VOCAB, generator=torch.Generator().manual_seed(0)) * 2.0


class CountingOperations(TorchDispatchMode):
    """Counts what torch is asked to do while it is entered."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def adjusted(logits: torch.Tensor, prompt: list[int], output: list[int], **sampling: Any) -> torch.Tensor:
    row = logits.clone()
    adjust(row, SamplingParams(max_tokens=9, seed=1, **sampling), [*prompt, *output], len(prompt))
    return row


@given(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=300), st.lists(st.integers(0, VOCAB - 1), max_size=300))
def test_penalties_are_what_counting_one_by_one_gives(prompt: list[int], output: list[int]) -> None:
    logits = make_logits()
    expected = logits.clone()
    for token_id in {*prompt, *output}:
        expected[token_id] = expected[token_id] / 1.3 if expected[token_id] > 0 else expected[token_id] * 1.3
    for token_id in set(output):
        expected[token_id] -= 0.7 * output.count(token_id) - 0.2

    row = adjusted(logits, prompt, output, repetition_penalty=1.3, frequency_penalty=0.7, presence_penalty=-0.2)

    assert torch.allclose(row, expected, atol=1e-5)


@pytest.mark.parametrize(
    "sampling",
    [{"logit_bias": tuple((i, 0.5) for i in range(VOCAB))}, {"repetition_penalty": 1.3}, {"presence_penalty": 1}],
)
def test_a_long_bias_and_a_long_history_take_no_more_operations_than_short_ones(sampling: dict[str, Any]) -> None:
    short = {name: value[:1] if isinstance(value, tuple) else value for name, value in sampling.items()}
    counts = []
    for settings, output in ((short, [1]), (sampling, list(range(VOCAB)) * 20)):
        with CountingOperations() as operations:  # type: ignore[no-untyped-call]
            adjusted(make_logits(), [0], output, **settings)
        counts.append(operations.count)

    assert counts[1] <= counts[0]
