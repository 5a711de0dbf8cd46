"""What the calibration asks of a service to see how it slows the engine down, and the same asked of a twin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simulation.outcome import Ended
from simulation.scenario import Scenario
from simulation.traffic import Asked
from simulation.twin import Twin
from simulation.workload import Arrival


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many clients at once, each of which asks so many times, one request after another, all alike."""

    num_clients: int
    num_each: int
    num_prompt_tokens: int
    num_output_tokens: int


class CrowdTraffic:
    """The crowd, as a twin's traffic."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._num_asked = [0] * crowd.num_clients

    @property
    def duration_s(self) -> None:
        return None

    def first(self) -> Iterator[Asked]:
        return (self._ask(client, 0.0) for client in range(self._crowd.num_clients))

    def next_of(self, client: int, ended_s: float) -> Asked | None:
        return self._ask(client, ended_s) if self._num_asked[client] < self._crowd.num_each else None

    def _ask(self, client: int, at_s: float) -> Asked:
        self._num_asked[client] += 1
        crowd = self._crowd
        return Asked(
            Arrival(at_s, crowd.num_prompt_tokens, crowd.num_output_tokens, 0.0, "standard", "default"), client
        )


def played_s(scenario: Scenario, crowd: Crowd) -> float:
    """How long the crowd's requests take altogether."""
    ended: list[Ended] = []
    Twin(scenario, CrowdTraffic(crowd), ended.append).run()
    return max(each.ended_s for each in ended)
