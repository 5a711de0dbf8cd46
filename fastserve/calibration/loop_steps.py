"""Times the engine's loop over an engine that computes nothing: planning, keeping books, telling."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

from engine.backends.fake import FakeEngine
from engine.config import EngineConfig
from engine.loop import EngineLoop
from engine.protocol import CommandMessage, EngineRequest, SamplingParams
from scheduling.cost_model import StepCostModel
from scheduling.score import ScorePolicy, Stamp

_NUM_STEPS = 96
_NUM_PROMPT_TOKENS = 16


def loop_step_s(config: EngineConfig, num_sequences: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """The median step of so many decodes, in seconds."""
    fake = replace(config, backend="fake", kv_cache_tokens=None, swap_space_tokens=0)
    loop = EngineLoop(FakeEngine(fake, sleep=lambda seconds: None, cost=StepCostModel()), fake)
    loop.apply(CommandMessage(added=[_request(number) for number in range(num_sequences)]))
    took_s = []
    while loop.has_work:
        began_s = clock()
        loop.step()
        took_s.append(clock() - began_s)
    return statistics.median(took_s)


def _request(number: int) -> EngineRequest:
    prompt = [number * _NUM_PROMPT_TOKENS + place for place in range(_NUM_PROMPT_TOKENS)]
    sampling = SamplingParams(max_tokens=_NUM_STEPS, seed=number, ignore_eos=True)
    return EngineRequest(str(number), prompt, sampling, Stamp(0, 0), ScorePolicy())
