"""The model of the chaos runs: its greedy answer walks through one cycle, whatever stood before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.chaos.certain_model import make_certain_model, successors
from tests.engine.tiny_models import make_tokenizer


@pytest.mark.parametrize("prompt", ["a", "hello there", "ZZ top 99"])
def test_each_token_is_followed_by_its_successor_by_a_wide_margin(tmp_path: Path, prompt: str) -> None:
    tokenizer = make_tokenizer()
    model = AutoModelForCausalLM.from_pretrained(make_certain_model(tmp_path))
    after, token_ids = successors(tokenizer.get_vocab()), tokenizer(prompt).input_ids
    for _ in range(62):
        logits = model(torch.tensor([token_ids])).logits[0, -1]
        best = torch.topk(logits, 2)
        assert int(best.indices[0]) == after[token_ids[-1]]
        assert float(best.values[0] - best.values[1]) > 1.0
        token_ids.append(int(best.indices[0]))
    assert len(set(token_ids[-62:])) == 62
