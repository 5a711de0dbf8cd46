"""A service says which tokens it generated, each in its own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers.served_answers import VLLM_DIALECT, our_dialect, served_answers
from deployments.api.openai_logprobs import token_text
from engine.tokenizer import Tokenizer
from fastserve.errors import ServerFailed
from fastserve.ports import LOOPBACK, free_port
from tests.benchmarks.stub_completions import Completions, stub_completions
from tests.engine.tokenizers import as_checkpoint_tokenizer


def test_answers_come_in_the_order_of_their_prompts() -> None:
    completions = Completions()
    with stub_completions(completions) as base_url:
        answers = served_answers(base_url, "stub", [[1, 2], [3]], 3, VLLM_DIALECT)

    assert answers == [[2, 2, 2], [3, 3, 3]]


def test_answers_are_asked_for_greedily_and_whole() -> None:
    completions = Completions()
    with stub_completions(completions) as base_url:
        served_answers(base_url, "stub", [[1]], 3, VLLM_DIALECT)

    [asked] = completions.asked
    assert asked["temperature"] == 0
    assert asked["ignore_eos"] is True
    assert asked["return_token_ids"] is True


def test_our_service_names_every_token_without_doubt(tmp_path: Path) -> None:
    as_checkpoint_tokenizer().save_pretrained(tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    every = list(range(tokenizer.vocab_size))

    texts = [token_text(tokenizer, token_id) for token_id in every]

    assert our_dialect(tmp_path).token_ids({"logprobs": {"tokens": texts}}) == every


def test_a_refusal_is_an_error() -> None:
    with (
        stub_completions(Completions(refused=range(1))) as base_url,
        pytest.raises(ServerFailed, match=r"429.*queue full"),
    ):
        served_answers(base_url, "stub", [[1]], 3, VLLM_DIALECT)


def test_a_service_that_is_gone_is_an_error() -> None:
    with pytest.raises(ServerFailed, match="ConnectError"):
        served_answers(f"http://{LOOPBACK}:{free_port()}", "stub", [[1]], 3, VLLM_DIALECT)
