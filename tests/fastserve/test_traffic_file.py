"""Who asks, as a file says it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

from benchmarks.plan import SHIPPED
from deployments.config_errors import ConfigError
from fastserve.traffic_file import Traffic, read_traffic
from simulation.objectives import Objectives
from simulation.workload import Arrival, FixedLengths, Size

ROOT = Path(__file__).parents[2]
URGENT = "{share: 0.5, priority: 10, prompt_tokens: 8, output_tokens: 4, ttft_s: 1.0, tpot_s: 0.2}"


def read(folder: Path, text: str) -> Traffic:
    path = folder / "traffic.yaml"
    path.write_text(text)
    return read_traffic(path)


def arrivals(traffic: Traffic, number: int) -> list[Arrival]:
    return list(itertools.islice(traffic.mix.arrivals(itertools.count(0.0), seed=1), number))


def test_the_shipped_objectives_and_priorities_are_those_of_the_shipped_service() -> None:
    (user_config,) = (
        each["user_config"]
        for each in yaml.safe_load((ROOT / "serve_config.yaml").read_text())["applications"][0]["deployments"]
        if "user_config" in each
    )
    traffic = read_traffic(SHIPPED)

    assert traffic.objectives == {
        name: Objectives(each["ttft_s"], each["tpot_s"]) for name, each in user_config["classes"].items()
    }
    bounds = {name: each["min_priority"] for name, each in user_config["classes"].items()}
    for each in traffic.mix.classes:
        assert each.name == max((name for name in bounds if bounds[name] <= each.priority), key=bounds.__getitem__)


def test_the_shipped_shares_are_one_urgent_request_in_ten_and_every_other_one_flex() -> None:
    traffic = read_traffic(SHIPPED)

    assert {each.name: each.share for each in traffic.mix.classes} == {"urgent": 0.1, "standard": 0.4, "flex": 0.5}
    assert traffic.most_urgent.name == "urgent"
    assert traffic.api_keys == {}


def test_a_fixed_length_is_exact_and_a_varying_one_varies(tmp_path: Path) -> None:
    varying = "{share: 0.5, priority: 0, prompt_tokens: {median: 100, sigma: 1.0, max: 200}, output_tokens: 999}"
    text = f"classes:\n  urgent: {URGENT}\n  bulk: {varying[:-1]}, ttft_s: 1.0, tpot_s: 1.0}}\n"

    drawn = arrivals(read(tmp_path, text), 200)

    assert {(a.num_prompt_tokens, a.num_output_tokens) for a in drawn if a.service_class == "urgent"} == {(8, 4)}
    bulk = [a for a in drawn if a.service_class == "bulk"]
    assert len({a.num_prompt_tokens for a in bulk}) > 20
    assert max(a.num_prompt_tokens for a in bulk) == 200
    assert {a.num_output_tokens for a in bulk} == {999}


def test_tenants_have_shares_and_keys(tmp_path: Path) -> None:
    tenants = "tenants:\n  a: {share: 0.5, api_key: secret}\n  b: {share: 0.5}\n"
    traffic = read(tmp_path, f"classes:\n  urgent: {URGENT.replace('0.5', '1.0', 1)}\n{tenants}")

    assert traffic.api_keys == {"a": "secret"}
    assert {each.tenant for each in arrivals(traffic, 50)} == {"a", "b"}


def test_all_classes_can_be_given_other_lengths() -> None:
    traffic = read_traffic(SHIPPED).with_lengths(FixedLengths(Size(3, 5)))

    assert {(a.num_prompt_tokens, a.num_output_tokens) for a in arrivals(traffic, 50)} == {(3, 5)}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"classes:\n  urgent: {URGENT}\n", "sum of shares: expected 1, got 0.5"),
        (f"classes:\n  urgent: {URGENT.replace('tpot_s', 'tpot')}\n", "classes.urgent.tpot: unknown key"),
        (f"classes:\n  urgent: {URGENT.replace('8', 'many')}\n", "many"),
        (f"classes:\n  urgent: {URGENT.replace('10', '1000')}\n", "classes.urgent.priority"),
        ("classes: {}\n", "classes"),
        ("classes: [\n", "valid YAML"),
        ("", "traffic.yaml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)

    assert named in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        read_traffic(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("tenant", ["{share: 1.0, api_key: [secret]}", "{share: 1.0, api_key: 'sec ret'}", "[secret]"])
def test_no_message_shows_a_key(tmp_path: Path, tenant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"classes:\n  urgent: {URGENT.replace('0.5', '1.0', 1)}\ntenants:\n  a: {tenant}\n")

    assert "secret" not in str(caught.value)
    assert "sec ret" not in str(caught.value)
    assert "tenants.a" in str(caught.value)


def test_objectives_are_met_up_to_their_limits() -> None:
    objectives = Objectives(ttft_s=1.0, tpot_s=0.5)

    assert objectives.are_met(1.0, 0.5)
    assert not objectives.are_met(1.1, 0.5)
    assert not objectives.are_met(1.0, 0.6)
    assert objectives.are_met(1.0, None)
