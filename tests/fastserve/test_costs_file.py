"""`costs.json`, written and read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deployments.config_errors import ConfigError
from fastserve.costs_file import Costs, HeldByEngine, read_costs, write_costs
from scheduling.cost_model import StepCostModel
from simulation.engine_model import EngineModel, ServiceOverheads

COSTS = Costs(
    model="tiny",
    engine=EngineModel(
        StepCostModel(0.01, 0.001, 0.002, 1e-6, 3e-5), 1e-7, 4096, (0.5, 1.0, 2.5), ((8, 1e-4), (32, 2e-4))
    ),
    holds=HeldByEngine(max_model_len=8192, num_blocks=100, block_size=16, num_swap_slots=7),
    overheads=ServiceOverheads(0.001, 0.002, 0.003, 0.004, 1.25),
    provenance={"date": "2026-01-31"},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_costs(COSTS, tmp_path / "costs.json")
    assert read_costs(tmp_path / "costs.json") == COSTS


def changed(folder: Path, *keys: str, value: object) -> Path:
    write_costs(COSTS, folder / "costs.json")
    document: dict[str, Any] = json.loads((folder / "costs.json").read_text())
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (folder / "costs.json").write_text(json.dumps(document))
    return folder / "costs.json"


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("engine", "base_s"), -1.0, "engine.base_s: got -1.0; expected at least 0"),
        (("engine", "base"), 1.0, "engine.base: unknown key"),
        (("engine", "spread"), [], "engine.spread: got []; expected at least 1 of them"),
        (("engine", "spread"), [2.0, 1.0], "spread: expected finite factors above 0 that never fall, got [2.0, 1.0]"),
        (("holds", "num_blocks"), 0, "holds.num_blocks: got 0; expected at least 1"),
        (("overheads", "slowdown"), "fast", "overheads.slowdown: got 'fast'; expected a number"),
        (("overheads", "slowdown"), 0.0, "overheads.slowdown: got 0.0; expected more than 0"),
        (("model",), 3, "model: got 3; expected a string"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, keys: tuple[str, ...], value: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_costs(changed(tmp_path, *keys, value=value))
    assert said in str(caught.value)


@pytest.mark.parametrize(("text", "said"), [("{", "valid JSON"), (None, "a readable file")])
def test_a_file_that_is_none_is_said_to_be(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "costs.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_costs(path)
