"""Owns `costs.json`: what one engine costs on one machine, what serving adds, and how that was found out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from deployments.config_errors import ConfigError
from deployments.problems import Problem
from deployments.settings import Settings, TopSettings
from scheduling.cost_model import StepCostModel
from simulation.engine_model import EngineModel, ServiceOverheads

_Seconds = Annotated[float, Field(ge=0, le=3600)]
_Count = Annotated[int, Field(ge=0, le=2**40)]
_Positive = Annotated[int, Field(ge=1, le=2**40)]


@dataclass(frozen=True, slots=True)
class HeldByEngine:
    """What the measured engine could hold, where a configuration does not say it."""

    max_model_len: int
    num_blocks: int
    block_size: int
    num_swap_slots: int


@dataclass(frozen=True, slots=True)
class Costs:
    """A calibration. provenance: what was measured, when, by which command, on what."""

    model: str
    engine: EngineModel
    holds: HeldByEngine
    overheads: ServiceOverheads
    provenance: dict[str, str]


class _DearerRowSettings(Settings):
    beyond: _Count
    row_s: _Seconds


class _EngineSettings(Settings):
    base_s: _Seconds
    decode_seq_s: _Seconds
    context_token_s: _Seconds
    prefill_token_s: _Seconds
    prefill_context_s: _Seconds
    copied_block_s: _Seconds
    block_bytes: _Count
    dearer_rows: list[_DearerRowSettings] = Field(default_factory=list, max_length=100)
    spread: Annotated[list[Annotated[float, Field(gt=0, le=1e6)]], Field(min_length=1, max_length=10_000)]

    def to_model(self) -> EngineModel:
        """Raises ValueError."""
        step = StepCostModel(
            base_s=self.base_s,
            prefill_token_s=self.prefill_token_s,
            decode_seq_s=self.decode_seq_s,
            context_token_s=self.context_token_s,
            copied_block_s=self.copied_block_s,
        )
        dearer_rows = tuple((each.beyond, each.row_s) for each in self.dearer_rows)
        return EngineModel(step, self.prefill_context_s, self.block_bytes, tuple(self.spread), dearer_rows)


class _HeldSettings(Settings):
    max_model_len: _Positive
    num_blocks: _Positive
    block_size: _Positive
    num_swap_slots: _Count


class _OverheadSettings(Settings):
    to_queue_s: _Seconds = 0.0
    to_engine_s: _Seconds = 0.0
    to_client_s: _Seconds = 0.0
    release_s: _Seconds = 0.0
    slowdown: Annotated[float, Field(gt=0)] = 1.0


class _CostsSettings(TopSettings):
    model: str
    engine: _EngineSettings
    holds: _HeldSettings
    overheads: _OverheadSettings = _OverheadSettings()
    provenance: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def default_path(cls) -> str:
        return "costs.json"


def read_costs(path: Path) -> Costs:
    """
    Raises:
        ConfigError: the file cannot be read, is no JSON, or has unknown keys or wrong values.
    """
    try:
        document = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(str(path), str(error), "a readable file") from None
    except json.JSONDecodeError as error:
        raise _wrong(str(path), str(error), "valid JSON") from None
    settings = _CostsSettings.model_validate(document, context={"path": str(path)})
    try:
        engine = settings.engine.to_model()
    except ValueError as error:
        raise _wrong(f"{path}.engine", str(error), "costs of a real engine") from None
    return Costs(
        settings.model,
        engine,
        HeldByEngine(**settings.holds.model_dump()),
        ServiceOverheads(**settings.overheads.model_dump()),
        settings.provenance,
    )


def write_costs(costs: Costs, path: Path) -> None:
    engine = costs.engine
    document: dict[str, Any] = {
        "model": costs.model,
        "engine": {
            **asdict(engine.step),
            "prefill_context_s": engine.prefill_context_s,
            "dearer_rows": [{"beyond": number, "row_s": row_s} for number, row_s in engine.dearer_rows],
            "block_bytes": engine.block_bytes,
            "spread": [round(factor, 4) for factor in engine.spread],
        },
        "holds": asdict(costs.holds),
        "overheads": asdict(costs.overheads),
        "provenance": costs.provenance,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def _wrong(path: str, value: str, expected: str) -> ConfigError:
    return ConfigError([Problem(path, "invalid", value, expected)])
