"""Builds engine requests and loops over the fake engine, with defaults for all that a test does not care about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.backends.fake import FakeEngine
from engine.config import EngineConfig
from engine.loop import EngineLoop
from engine.protocol import CommandMessage, EngineRequest, InferenceEngine, SamplingParams, SequenceOutput
from scheduling.score import ScorePolicy, Stamp


def make_config(**settings: Any) -> EngineConfig:
    return replace(EngineConfig(model_name="fake", source="nowhere", backend="fake", max_model_len=256), **settings)


def make_loop(engine: InferenceEngine | None = None, **settings: Any) -> EngineLoop:
    """A loop over a fake engine that costs no time."""
    config = make_config(**settings)
    return EngineLoop(engine or make_engine(**settings), config)


def make_engine(*, eos_token_ids: tuple[int, ...] = (), **settings: Any) -> FakeEngine:
    return FakeEngine(make_config(**settings), sleep=lambda seconds: None, eos_token_ids=eos_token_ids)


def make_request(
    lease_id: str = "lease-1",
    *,
    num_prompt_tokens: int = 10,
    prompt: list[int] | None = None,
    output: list[int] | None = None,
    priority: float = 0,
    arrival_s: float = 0,
    policy: ScorePolicy | None = None,
    max_tokens: int = 5,
    seed: int = 1,
    **sampling: Any,
) -> EngineRequest:
    return EngineRequest(
        lease_id=lease_id,
        prompt_token_ids=prompt or list(range(1, num_prompt_tokens + 1)),
        sampling=SamplingParams(max_tokens=max_tokens, seed=seed, **sampling),
        stamp=Stamp(priority, arrival_s),
        policy=policy or ScorePolicy(),
        output_token_ids=output or [],
    )


def run_to_end(loop: EngineLoop, *requests: EngineRequest, max_steps: int = 10_000) -> dict[str, list[SequenceOutput]]:
    """Every output of every sequence, by lease id."""
    loop.apply(CommandMessage(added=list(requests)))
    outputs: dict[str, list[SequenceOutput]] = {}
    for _ in range(max_steps):
        make_guides(loop)
        if not loop.has_work:
            return outputs
        for output in loop.step().outputs:
            outputs.setdefault(output.lease_id, []).append(output)
    raise AssertionError(f"work is left after {max_steps} steps")


def make_guides(loop: EngineLoop) -> None:
    """What a thread does beside the steps of a loop that is not driven by hand."""
    while loop.guides.make_one():
        continue


def tokens_of(outputs: list[SequenceOutput]) -> list[int]:
    return [token_id for output in outputs for token_id in output.token_ids]
