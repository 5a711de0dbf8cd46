"""Owns how a request is put to a service: its body, its headers, and which way priority runs there. Sends nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from simulation.workload import Arrival


class PriorityRuns(StrEnum):
    """Which priority a service runs first: ours the higher, vLLM (`--scheduling-policy priority`) the lower."""

    HIGHER_FIRST = "higher-first"
    LOWER_FIRST = "lower-first"
    UNSENT = "unsent"

    def sent(self, priority: float) -> float | None:
        """The number to send, whole where it can be: vLLM takes no other. None where none is sent."""
        if self is PriorityRuns.UNSENT:
            return None
        sent = priority if self is PriorityRuns.HIGHER_FIRST else -priority
        return int(sent) if sent == int(sent) else sent


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """A request whose time and words were fixed beforehand."""

    arrival: Arrival
    prompt: str


@dataclass(frozen=True, slots=True)
class Asking:
    """What all requests to one service have in common.

    api_keys: by tenant. request_timeout_s: from a request's scheduled time to the end of its answer. comes_back: a
    client that is refused asks again when it was told to.
    """

    model: str
    priority_runs: PriorityRuns
    request_timeout_s: float
    comes_back: bool = False
    api_keys: Mapping[str, str] = field(default_factory=dict, repr=False)

    def body(self, planned: PlannedRequest) -> dict[str, object]:
        """A streamed answer of fixed length: the end of the text is ignored."""
        priority = self.priority_runs.sent(planned.arrival.priority)
        return {
            "model": self.model,
            "prompt": planned.prompt,
            "max_tokens": planned.arrival.num_output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **({} if priority is None else {"priority": priority}),
        }

    def headers(self, tenant: str) -> dict[str, str]:
        key = self.api_keys.get(tenant)
        return {} if key is None else {"authorization": f"Bearer {key}"}
