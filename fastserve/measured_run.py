"""Reads what a service was measured to do, from the JSON that `python -m benchmarks.mixed_priority` writes."""

from __future__ import annotations

from pathlib import Path

import msgspec

from deployments.config_errors import ConfigError
from deployments.problems import Problem
from simulation.likeness import MeasuredGroup, MeasuredRun


class _Times(msgspec.Struct):
    p50_ms: float | None
    p99_ms: float | None


class _Group(msgspec.Struct):
    name: str
    ttft: _Times


class _Side(msgspec.Struct):
    classes: list[_Group]
    output_tokens_per_s: float


class _Results(msgspec.Struct):
    sides: list[_Side]


def read_measured(path: Path) -> MeasuredRun:
    """The service's own side; a peer's stands after it.

    Raises:
        ConfigError: the file cannot be read, or holds no results of a mixed load.
    """
    try:
        results = msgspec.json.decode(path.read_bytes(), type=_Results)
    except (OSError, msgspec.DecodeError) as error:
        raise _wrong(path, str(error)) from None
    if not results.sides:
        raise _wrong(path, "no service")
    side = results.sides[0]
    return MeasuredRun(
        path.name,
        {each.name: MeasuredGroup(_seconds(each.ttft.p50_ms), _seconds(each.ttft.p99_ms)) for each in side.classes},
        side.output_tokens_per_s,
    )


def _seconds(time_ms: float | None) -> float | None:
    return None if time_ms is None else time_ms / 1000


def _wrong(path: Path, value: str) -> ConfigError:
    expected = "results of `python -m benchmarks.mixed_priority`, as JSON"
    return ConfigError([Problem(f"--measured {path}", "invalid", value, expected)])
