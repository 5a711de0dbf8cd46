"""Turns the options of `fastserve simulate` into a load and its clients, and says which do not go together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deployments.config_errors import ConfigError
from deployments.problems import Problem
from fastserve.traffic_file import Traffic
from fastserve.twin_load import TwinLoad
from simulation.replay import Replay
from simulation.scenario import Clients
from simulation.traces import read_trace
from simulation.workload import Scale


def load_of(
    traffic: Traffic,
    replay: Replay | None,
    rate_per_s: float | None,
    num_clients: int | None,
    think_s: float,
    duration_s: float,
    num_rounds: int,
    seed: int,
) -> TwinLoad:
    """
    Raises:
        ConfigError: none of a rate, clients and a trace is given, or clients with one of the others.
    """
    given = {"--rate": rate_per_s, "--clients": num_clients, "--trace": replay and replay.name}
    named = [f"{name} {value}" for name, value in given.items() if value is not None]
    if not named or (num_clients is not None and len(named) > 1):
        expected = "a rate, a number of clients, or a trace with a rate or without"
        raise ConfigError([Problem("--rate, --clients, --trace", "invalid", ", ".join(named) or None, expected)])
    return TwinLoad(traffic, replay, rate_per_s, num_clients, think_s, duration_s, num_rounds, seed)


def replay_of(path: Path | None, skip_broken: bool, lengths: Scale | None) -> Replay | None:
    """
    Raises:
        TraceBroken, OSError: see `read_trace`.
    """
    return None if path is None else Replay(path.name, read_trace(path, skip_broken=skip_broken), lengths)


def clients_of(traffic: Traffic, deadlines: Sequence[str], max_output_tokens: int | None, max_retries: int) -> Clients:
    """deadlines: each `CLASS=SECONDS`.

    Raises:
        ConfigError: one is not of this form, or of no class of the traffic.
        ValueError: it is not a time.
    """
    return Clients(max_output_tokens, dict(_deadline(traffic, text) for text in deadlines), max_retries)


def _deadline(traffic: Traffic, text: str) -> tuple[str, float]:
    name, _, seconds = text.partition("=")
    try:
        deadline_s = float(seconds)
    except ValueError:
        raise _wrong(text, "CLASS=SECONDS") from None
    if name not in traffic.objectives:
        raise _wrong(text, f"one of the classes {', '.join(traffic.objectives)}")
    return name, deadline_s


def _wrong(text: str, expected: str) -> ConfigError:
    return ConfigError([Problem("--deadline", "invalid", text, expected)])
