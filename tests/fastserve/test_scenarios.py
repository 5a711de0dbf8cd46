"""Configurations, as they are and changed, as scenarios."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deployments.config_errors import ConfigError
from fastserve.scenarios import Circumstances, load_scenario
from fastserve.what_if import Change, WhatIf, parse_what_if
from scheduling.load import ClassObjective
from scheduling.score import ScorePolicy
from simulation.objectives import Objectives
from simulation.scenario import Clients, Scenario
from tests.fastserve.test_costs_file import COSTS

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "serve_config.yaml"
GIVEN = Circumstances(COSTS, Clients(), {"urgent": Objectives(1.0, 0.2)}, model=None, startup_s=20.0, seed=3)


def scenario(*changes: str, path: Path = SHIPPED) -> Scenario:
    what_if = parse_what_if(f"changed: {', '.join(changes)}") if changes else None
    return load_scenario(path, what_if, GIVEN)


def test_the_shipped_configuration_is_played_as_it_stands() -> None:
    shipped = scenario()
    assert (shipped.name, shipped.num_replicas, shipped.seed) == ("serve_config.yaml", 1, 3)
    assert (shipped.policy, shipped.bounds.max_waiting) == (ScorePolicy(1.0, 0.1), 1024)
    limits = shipped.shape.limits
    assert (limits.max_num_seqs, limits.max_num_batched_tokens, limits.max_decode_stretch) == (32, 512, 1.7)
    assert (shipped.engine, shipped.overheads) == (COSTS.engine, COSTS.overheads)
    assert shipped.objectives == GIVEN.objectives


def test_replicas_are_scaled_by_the_policy_that_the_file_names() -> None:
    scaling = scenario().scaling
    assert scaling is not None
    assert (scaling.limits.min_replicas, scaling.limits.max_replicas, scaling.startup_s) == (1, 2, 20.0)
    assert scaling.limits.downscale_window_s == 300
    assert scaling.objectives["urgent"] == ClassObjective(min_priority=5.0, wait_s=1.0)


def test_there_are_as_many_replicas_as_at_first_where_no_policy_of_ours_scales_them() -> None:
    assert scenario("deployment.num_replicas=3").scaling is None
    assert scenario("deployment.autoscaling_config={min_replicas: 2, max_replicas: 4}").scaling is None


def test_a_model_may_begin_without_a_replica() -> None:
    assert scenario("deployment.autoscaling_config.min_replicas=0").num_replicas == 0


def test_what_the_file_leaves_open_is_as_the_measured_engine_had_it() -> None:
    shape = scenario().shape
    assert (shape.num_blocks, shape.block_size, shape.num_swap_slots, shape.max_model_len) == (
        100,
        16,
        7,
        8192,
    )


def test_what_the_file_says_wins() -> None:
    shape = scenario(
        "model.kv_cache_tokens=4096", "model.block_size=32", "model.swap_space_tokens=64", "model.max_model_len=512"
    ).shape
    assert (shape.num_blocks, shape.block_size, shape.num_swap_slots, shape.max_model_len) == (128, 32, 2, 512)


@pytest.mark.parametrize("preemption", ["'off'", "recompute"])
def test_there_is_no_swap_area_where_nobody_swaps(preemption: str) -> None:
    assert scenario(f"model.preemption={preemption}").shape.num_swap_slots == 0


def test_changes_are_made_in_all_three_places() -> None:
    changed = scenario("user_config.alpha=0", "user_config.bounds.max_waiting=5", "model.max_num_seqs=4")
    assert (changed.name, changed.policy.alpha, changed.bounds.max_waiting) == ("changed", 0.0, 5)
    assert changed.shape.limits.max_num_seqs == 4
    assert scenario("deployment.num_replicas=3").num_replicas == 3
    assert scenario("deployment.autoscaling_config.min_replicas=2").num_replicas == 2


def test_a_deployment_that_the_file_does_not_name_can_be_changed_too(tmp_path: Path) -> None:
    document = yaml.safe_load(SHIPPED.read_text())
    del document["applications"][0]["deployments"]
    path = tmp_path / "bare.yaml"
    path.write_text(yaml.safe_dump(document))
    changed = scenario("user_config.beta=0.5", "deployment.num_replicas=2", path=path)
    assert (changed.policy.beta, changed.num_replicas) == (0.5, 2)


def test_a_change_is_checked_as_the_service_would() -> None:
    with pytest.raises(ConfigError, match="max_num_seqs: got 0; expected at least 1"):
        scenario("model.max_num_seqs=0")
    with pytest.raises(ConfigError, match="max_seqs: unknown key"):
        scenario("model.max_seqs=4")


def test_the_shipped_file_stays_as_it_is() -> None:
    before = SHIPPED.read_text()
    scenario("model.max_num_seqs=4")
    assert SHIPPED.read_text() == before


def test_a_what_if_has_a_name_or_is_its_own() -> None:
    change = Change("user_config", ("bounds", "max_waiting"), 5)
    assert parse_what_if("small queue: user_config.bounds.max_waiting=5") == WhatIf("small queue", (change,))
    assert parse_what_if("user_config.bounds.max_waiting=5").name == "user_config.bounds.max_waiting=5"


@pytest.mark.parametrize("text", ["beta=0.2", "user_config.beta", "name: ", "model.=3", "ingress.x=1"])
def test_a_change_of_another_form_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected PLACE\.KEY=VALUE, where PLACE is model, user_config or"):
        parse_what_if(text)


def test_a_value_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--what-if model\.max_num_seqs: got '\['; expected a value as in YAML"):
        parse_what_if("model.max_num_seqs=[")


def test_a_model_that_the_file_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="--model: got 'other'; expected one of SmolLM2-135M-Instruct"):
        load_scenario(SHIPPED, None, Circumstances(COSTS, Clients(), {}, model="other", startup_s=1.0, seed=1))
