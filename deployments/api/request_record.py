"""Owns what is known of one HTTP request while it runs: who, what, when, how it ended. Knows no log and no metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from deployments.api.generation import ChoiceDelta, ChoiceEvent
from deployments.api.request_plan import Plan
from deployments.api.standing import Standing
from deployments.generate_call import Started
from deployments.user_config import ClassConfig

CLIENT_CLOSED_REQUEST = 499


@dataclass(slots=True)
class ChoiceTimes:
    """When one choice's tokens came, by the monotonic clock."""

    first_s: float
    last_s: float
    num_tokens: int = 0
    num_cached_tokens: int = 0
    finish_reason: str | None = None

    @property
    def mean_gap_s(self) -> float | None:
        """TPOT: the mean gap after the first token; None for a single token."""
        return None if self.num_tokens < 2 else (self.last_s - self.first_s) / (self.num_tokens - 1)


@dataclass(slots=True)
class RequestRecord:
    """One request's facts. `clock` is monotonic, in seconds; `arrived_s` is its time of arrival."""

    request_id: str
    route: str
    clock: Callable[[], float]
    arrived_s: float
    tenant: str = "default"
    model: str | None = None
    standing: Standing | None = None
    plan: Plan | None = None
    started: Started | None = None
    status: int = 200
    error_code: str | None = None
    ended_s: float | None = None
    choices: dict[int, ChoiceTimes] = field(default_factory=dict)
    gaps_s: list[float] = field(default_factory=list)

    def observe(self, event: ChoiceEvent) -> None:
        """Takes note of one event at the time it came."""
        if isinstance(event, ChoiceDelta):
            self._observe_delta(event, self.clock())
        elif self.started is None:
            self.started = event.started

    def end(self, status: int, error_code: str | None = None) -> None:
        self.status = status
        self.error_code = error_code
        self.ended_s = self.clock()

    @property
    def num_prompt_tokens(self) -> int:
        return 0 if self.plan is None else self.plan.num_prompt_tokens

    @property
    def num_output_tokens(self) -> int:
        return sum(times.num_tokens for times in self.choices.values())

    @property
    def num_cached_tokens(self) -> int:
        """Prompt tokens that were not computed, each prompt counted once."""
        if self.plan is None:
            return 0
        best: dict[int, int] = {}
        for index, times in self.choices.items():
            prompt = index // self.plan.n
            best[prompt] = max(best.get(prompt, 0), times.num_cached_tokens)
        return sum(best.values())

    @property
    def num_failovers(self) -> int:
        """How often a choice lost its replica and went on with another."""
        return 0 if self.plan is None else sum(choice.moves.num_failovers for choice in self.plan.choices)

    @property
    def finish_reasons(self) -> list[str]:
        return [times.finish_reason for _, times in sorted(self.choices.items()) if times.finish_reason is not None]

    @property
    def ttft_s(self) -> float | None:
        firsts = [times.first_s for times in self.choices.values()]
        return min(firsts) - self.arrived_s if firsts else None

    @property
    def tpot_s(self) -> float | None:
        """The slowest choice's mean gap: what the client waits for."""
        gaps = [gap for times in self.choices.values() if (gap := times.mean_gap_s) is not None]
        return max(gaps) if gaps else None

    @property
    def e2e_s(self) -> float:
        return (self.clock() if self.ended_s is None else self.ended_s) - self.arrived_s

    def met(self, objectives: ClassConfig) -> bool:
        """Whether the answer is complete and met both objectives of its class: what goodput counts."""
        complete = self.plan is not None and len(self.finish_reasons) == len(self.plan.choices)
        in_time = self.ttft_s is not None and self.ttft_s <= objectives.ttft_s
        return complete and self.status == 200 and in_time and (self.tpot_s or 0.0) <= objectives.tpot_s

    def _observe_delta(self, delta: ChoiceDelta, now_s: float) -> None:
        if not delta.token_ids and delta.finish_reason is None:
            return
        times = self.choices.get(delta.index)
        if times is None:
            times = self.choices[delta.index] = ChoiceTimes(now_s, now_s)
        elif delta.token_ids:
            self.gaps_s.append(now_s - times.last_s)
        times.last_s = now_s
        times.num_tokens += len(delta.token_ids)
        times.num_cached_tokens = max(times.num_cached_tokens, delta.num_cached_tokens)
        times.finish_reason = None if delta.finish_reason is None else str(delta.finish_reason)
