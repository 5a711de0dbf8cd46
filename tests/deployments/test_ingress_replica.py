"""What the ingress learns of a model before any replica has spoken."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any, cast

import pytest
from ray.serve.handle import DeploymentHandle

from deployments.config import ModelConfig
from deployments.feed.receiver import TokenFeed
from deployments.ingress_replica import end_trials, model_service
from engine.grammar import GrammarRefused
from tests.deployments.fake_model import InProcessJudge
from tests.engine.tokenizers import as_checkpoint_tokenizer

CONTEXT = 2048


class _Handle:
    def options(self, **_: object) -> _Handle:
        return self


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    as_checkpoint_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "llama", "max_position_embeddings": CONTEXT, "vocab_size": 100})
    )
    (tmp_path / "model.safetensors").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("limits", "longest"), [({}, CONTEXT), ({"max_model_len": 1000}, 1000), ({"kv_cache_tokens": 512}, 512)]
)
def test_the_ingress_gives_no_answer_more_room_than_a_replica_has(
    folder: Path, limits: dict[str, int], longest: int
) -> None:
    config = ModelConfig(name="m", source=str(folder), **cast("Any", limits))

    service = model_service(config, cast("DeploymentHandle[Any]", _Handle()), TokenFeed())

    assert service.max_model_len == longest
    assert service.describe()["max_model_len"] == longest


def test_the_ingress_takes_no_token_that_the_weights_lack(folder: Path) -> None:
    service = model_service(
        ModelConfig(name="m", source=str(folder)), cast("DeploymentHandle[Any]", _Handle()), TokenFeed()
    )

    assert service.tokenizer.vocab_size > 100
    assert service.vocab_size == 100


def test_every_ingress_says_that_a_model_was_created_when_its_checkpoint_was(folder: Path) -> None:
    os.utime(folder / "config.json", (1_700_000_000, 1_700_000_000))

    service = model_service(
        ModelConfig(name="m", source=str(folder)), cast("DeploymentHandle[Any]", _Handle()), TokenFeed()
    )

    assert service.describe()["created"] == 1_700_000_000


def test_the_ingress_tries_grammars_over_the_models_own_vocabulary(folder: Path) -> None:
    service = model_service(
        ModelConfig(name="m", source=str(folder)), cast("DeploymentHandle[Any]", _Handle()), TokenFeed()
    )

    service.grammars.check('{"grammars": [{"json_schema": {"type": "object"}}]}')
    with pytest.raises(GrammarRefused):
        service.grammars.check('{"grammars": [{"json_schema": {"$ref": "#"}}]}')
    service.grammars.close()


class _BusyJudge(InProcessJudge):
    """Its close waits for a trial to end."""

    def __init__(self) -> None:
        super().__init__()
        self.trial_ends = threading.Event()
        self.is_closed = threading.Event()

    def close(self) -> None:
        self.trial_ends.wait(10)
        self.is_closed.set()


async def test_an_ingress_that_ends_waits_for_trials_of_grammars_beside_its_event_loop_and_not_for_long() -> None:
    ends, never = _BusyJudge(), _BusyJudge()
    async with asyncio.timeout(20):
        ending = asyncio.create_task(end_trials([ends, never], within_s=0.2))
        _, waiting = await asyncio.wait([ending], timeout=0.01)
        assert waiting
        ends.trial_ends.set()
        await ending
    assert ends.is_closed.wait(5)
    assert not never.is_closed.is_set()
    never.trial_ends.set()
