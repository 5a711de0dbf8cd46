"""Tests that the embedded model itself, split over real ranks, gives the logits of transformers' whole model.

Within bfloat16's rounding means: the split model in bfloat16 is about as far from the model in float32, which hardly
rounds, as the whole model in bfloat16 is. Bit for bit the two cannot agree. Every rank rounds its own part of a sum,
and the sum of the parts is rounded again: `size + 1` roundings where the whole model has one. Independent errors add up
as their squares do, so the distance may grow by the root of that, which is 2 at three ranks. Distances are root mean
squares over the prompt, and over the decodes: a single position's is a matter of chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from engine import process_group
from engine.checkpoint import resolve
from engine.config import EngineConfig
from engine.runner import build_runner
from engine.sharding import load_shard
from engine.step import Step, arrange
from tests.engine.chunks import make_chunk
from tests.engine.worlds import RankWorld

EMBEDDED = EngineConfig("m", "embedded:SmolLM2-135M-Instruct", kv_cache_tokens=128, num_threads=1)
QUESTION = "What is the capital of France, and what is it known for?"
NUM_DECODES = 24
MAX_GROWTH = 2.0  # of the distance from float32
FLOAT32_TOLERANCE = 1e-3  # logits are about 8 large, and about 1e-4 apart when summed in another order


@dataclass(frozen=True, slots=True)
class Reference:
    """transformers' whole model over one chat. exact, rounded: logits [num_tokens, vocab], of float32 and bfloat16."""

    prompt: list[int]
    answer: list[int]
    exact: torch.Tensor
    rounded: torch.Tensor


@pytest.fixture(scope="module")
def reference() -> Reference:
    folder = resolve(EMBEDDED.source)
    prompt, whole = chat_prompt(folder), load_whole(folder, torch.float32)
    text = whole.generate(torch.tensor([prompt]), max_new_tokens=NUM_DECODES, do_sample=False)
    return Reference(
        prompt=prompt,
        answer=text[0, len(prompt) :].tolist(),
        exact=logits_of(whole, text),
        rounded=logits_of(load_whole(folder, torch.bfloat16), text),
    )


def chat_prompt(folder: Path) -> list[int]:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": QUESTION}]
    token_ids: list[int] = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)[
        "input_ids"
    ]
    return token_ids


def load_whole(folder: Path, dtype: torch.dtype) -> Any:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return model.eval()


@torch.inference_mode()
def logits_of(model: Any, text: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(text).logits[0].float()
    return logits


def answer_on_a_rank(
    rank: int, port: int, put: Callable[[Any], None], size: int, prompt: list[int], answer: list[int]
) -> None:
    """On each rank: the chat step by step in float32, then in bfloat16. Puts both models' logits."""
    config = replace(EMBEDDED, tensor_parallel_size=size)
    world = process_group.join(config, rank, "127.0.0.1", port)
    logits = []
    for typed in (replace(config, dtype="float32"), config):
        runner = build_runner(load_shard(typed, resolve(config.source), world), typed, world)
        logits.append(torch.cat([runner.run(step).clone() for step in steps(prompt, answer)]).numpy())
    put(logits)
    process_group.leave()


def steps(prompt: list[int], answer: list[int]) -> list[Step]:
    """A prefill that wants the logits of every token, then a decode for each token of the answer."""
    table = list(range(8))
    prefill = make_chunk("a", prompt, block_table=table, prompt_logprobs=0)
    decodes = [
        make_chunk("a", [token_id], start=position, block_table=table)
        for position, token_id in enumerate(answer, len(prompt))
    ]
    return [arrange([chunk], EMBEDDED.block_size).step for chunk in (prefill, *decodes)]


def distance(logits: torch.Tensor, exact: torch.Tensor) -> float:
    return float((logits - exact).square().mean().sqrt())


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("size", [2, 3])
def test_the_split_model_gives_the_logits_of_the_whole_one_within_its_rounding(size: int, reference: Reference) -> None:
    with RankWorld(answer_on_a_rank, size, (size, reference.prompt, reference.answer)) as world:
        results = world.results()
        assert world.join() == [0] * size
    prompt, decodes = slice(len(reference.prompt)), slice(len(reference.prompt), None)
    for found in results:
        exact, rounded = map(torch.from_numpy, found)
        torch.testing.assert_close(exact, reference.exact, atol=FLOAT32_TOLERANCE, rtol=0)
        for phase in (prompt, decodes):
            of_whole = distance(reference.rounded[phase], reference.exact[phase])
            assert distance(rounded[phase], reference.exact[phase]) <= MAX_GROWTH * of_whole
