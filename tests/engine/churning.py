"""Plays arrivals against a loop on virtual time, and says how much useful work a second of it gave. Asserts nothing."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from engine.backends.fake import FakeEngine
from engine.loop import EngineLoop
from engine.protocol import CommandMessage, EngineRequest, EngineStats
from scheduling.cost_model import StepCostModel
from tests.engine.factories import make_config, make_request

#: About what a small model costs on a CPU.
COST = StepCostModel(base_s=0.008, prefill_token_s=0.00077, decode_seq_s=0.0008, copied_block_s=0.0001)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request, and when it comes in virtual seconds."""

    at_s: float
    request: EngineRequest


@dataclass(slots=True)
class VirtualTime:
    """A clock that only moves when somebody sleeps."""

    now_s: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def read(self) -> float:
        return self.now_s


@dataclass(slots=True)
class Played:
    """What came out. num_useful_tokens: prompts and answers, each counted once."""

    num_useful_tokens: int
    took_s: float
    stats: EngineStats
    first_token_s: dict[str, float] = field(default_factory=dict)

    @property
    def tokens_per_s(self) -> float:
        return self.num_useful_tokens / self.took_s


def play_arrivals(arrivals: list[Arrival], cost: StepCostModel = COST, **settings: Any) -> Played:
    """Serves all of them to the end."""
    time = VirtualTime()
    config = make_config(**{"kv_cache_tokens": 2048, "max_model_len": 1024, "max_num_batched_tokens": 256, **settings})
    loop = EngineLoop(FakeEngine(config, sleep=time.sleep, cost=cost), config, clock=time.read)
    coming, first_token_s = deque(sorted(arrivals, key=lambda arrival: arrival.at_s)), {}
    while coming or loop.has_work:
        if not loop.has_work:
            time.now_s = max(time.now_s, coming[0].at_s)
        while coming and coming[0].at_s <= time.now_s:
            loop.apply(CommandMessage(added=[coming.popleft().request]))
        for output in loop.step().outputs:
            first_token_s.setdefault(output.lease_id, time.now_s)
    loop.check_idle()
    stats = loop.stats
    num_useful = stats.prompt_tokens + stats.generation_tokens
    return Played(num_useful, time.now_s, stats, first_token_s)


def rising(count: int, every_s: float, *, num_prompt_tokens: int = 200, max_tokens: int = 200) -> list[Arrival]:
    """Each outranks all before it by more than the margin."""
    return [
        Arrival(every_s * i, _request(i, 6.0 * i, num_prompt_tokens, max_tokens, every_s * i)) for i in range(count)
    ]


def alternating(count: int, every_s: float, *, num_prompt_tokens: int = 200, max_tokens: int = 200) -> list[Arrival]:
    """Bulk and urgent in turn: a long bulk request, then an urgent one that needs its room."""
    return [
        Arrival(every_s * i, _request(i, 50.0 * (i % 2), num_prompt_tokens, max_tokens // (1 + i % 2), every_s * i))
        for i in range(count)
    ]


def saturating(count: int, *, num_prompt_tokens: int = 100, max_tokens: int = 400) -> list[Arrival]:
    """All equal and at once, with answers that outgrow the pool: running requests run out of blocks."""
    return [Arrival(0.0, _request(i, 0.0, num_prompt_tokens, max_tokens, 0.0)) for i in range(count)]


def _request(index: int, priority: float, num_prompt_tokens: int, max_tokens: int, arrival_s: float) -> EngineRequest:
    """Its prompt is like no other."""
    prompt = [1 + (index * 7919 + i * 31) % 40_000 for i in range(num_prompt_tokens)]
    return make_request(
        str(index), prompt=prompt, priority=priority, arrival_s=arrival_s, max_tokens=max_tokens, seed=index
    )
