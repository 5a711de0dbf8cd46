"""Settings: defaults, bounds, and errors that name the key, the value and what was expected."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from deployments.config import ModelConfig, ServingConfig
from deployments.config_errors import ConfigError
from deployments.problems import shortened
from deployments.user_config import IngressUserConfig, parse_user_config
from engine.config import EngineConfig
from scheduling.score import ScorePolicy


def _model(**fields: object) -> dict[str, object]:
    return {"name": "m", "source": "embedded:SmolLM2-135M-Instruct", **fields}


def _refusal(args: object) -> str:
    with pytest.raises(ConfigError) as refused:
        ServingConfig.model_validate(args)
    return str(refused.value)


def test_the_shipped_defaults_are_the_engines_own() -> None:
    config = ModelConfig.model_validate(_model())
    assert config.to_engine_config() == EngineConfig(model_name="m", source="embedded:SmolLM2-135M-Instruct")


def test_every_setting_reaches_the_engine() -> None:
    changed: dict[str, Any] = {
        "backend": "fake",
        "dtype": "float32",
        "tensor_parallel_size": 2,
        "max_num_seqs": 4,
        "max_model_len": 100,
        "max_num_batched_tokens": 64,
        "block_size": 8,
        "kv_cache_tokens": 1024,
        "parked_limit": 0,
        "preemption_margin_levels": 1.5,
        "preemption": "recompute",
        "swap_space_tokens": 64,
        "step_timeout_s": 5.0,
        "prefix_caching": False,
        "num_threads": 1,
        "fake_step_s": 0.0,
    }
    engine = ModelConfig.model_validate(_model(device="cuda", **changed)).to_engine_config()
    assert {name: getattr(engine, name) for name in changed} == changed
    assert engine.device == "cuda"


@pytest.mark.parametrize(
    ("device", "has_gpu", "expected"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", False, "cuda")],
)
def test_auto_takes_a_gpu_where_there_is_one(device: str, has_gpu: bool, expected: str) -> None:
    config = ModelConfig.model_validate(_model(device=device))
    assert config.to_engine_config(has_gpu=has_gpu).device == expected


@pytest.mark.parametrize(("size", "expected"), [(1, 0.3), (2, 0.3), (3, 0.2333), (4, 0.175), (7, 0.1)])
def test_all_ranks_of_a_replica_leave_room_for_a_second_one(size: int, expected: float) -> None:
    config = ModelConfig.model_validate(_model(tensor_parallel_size=size))
    assert config.cpus_per_rank == pytest.approx(expected)
    assert config.cpus_per_rank * size <= 0.7 + 1e-9


def test_an_unknown_key_is_named_with_its_value_and_what_was_likely_meant() -> None:
    message = _refusal({"models": [_model(tensor_paralel_size=2)]})
    assert message.startswith(
        "applications[0].args.models[0].tensor_paralel_size: unknown key, got 2; expected tensor_p"
    )


def test_every_problem_is_told_one_a_line() -> None:
    message = _refusal({"models": [_model(max_num_seqs="3", dtype="int8"), {"name": "Ingress"}], "modles": []})
    assert sorted(line.split(": ")[0] for line in message.splitlines()) == [
        "applications[0].args.models[0].dtype",
        "applications[0].args.models[0].max_num_seqs",
        "applications[0].args.models[1].name",
        "applications[0].args.models[1].source",
        "applications[0].args.modles",
    ]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({}, "models: missing; expected a value"),
        ({"models": []}, "models: got []; expected at least 1 of them"),
        ([], "applications[0].args: got []; expected an object"),
        ({"models": [_model(max_num_seqs=0)]}, "max_num_seqs: got 0; expected at least 1"),
        ({"models": [_model(max_num_seqs=True)]}, "max_num_seqs: got True; expected a whole number"),
        ({"models": [_model(rank_num_cpus=float("inf"))]}, "rank_num_cpus: got inf; expected a finite number"),
        ({"models": [_model(name="a/b")]}, "name: got 'a/b'; expected text that matches"),
        ({"models": [_model(source="")]}, "source: got ''; expected some text"),
        ({"models": [_model(), _model()]}, "expected each name once, but m stands there more than once"),
        ({"models": [_model(max_num_seqs=64, max_num_batched_tokens=8)]}, "max_num_batched_tokens (8) of at least"),
    ],
)
def test_a_wrong_value_is_told_with_what_was_expected(args: object, said: str) -> None:
    assert said in _refusal(args)


@pytest.mark.parametrize(
    ("limits", "longest"),
    [
        ({}, 8192),
        ({"max_model_len": 4096}, 4096),
        ({"kv_cache_tokens": 2048}, 2048),
        ({"max_model_len": 1024, "kv_cache_tokens": 2048}, 1024),
        ({"kv_cache_tokens": 65536}, 8192),
    ],
)
def test_the_longest_sequence_fits_the_context_and_the_cache(limits: dict[str, int], longest: int) -> None:
    assert ModelConfig.model_validate(_model(**limits)).longest_sequence(8192) == longest


def test_a_value_of_any_size_and_depth_is_shown_in_one_short_line() -> None:
    deep: object = 1
    for _ in range(5_000):
        deep = [{"a": deep}]
    for value in (deep, ["x" * 10_000] * 1_000, {str(key): key for key in range(1_000)}):
        assert len(shortened(value)) <= 80


def test_a_config_error_survives_the_way_between_processes() -> None:
    with pytest.raises(ConfigError) as refused:
        ServingConfig.model_validate({})
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)


def test_no_user_config_means_every_default() -> None:
    settings = parse_user_config(None)
    assert settings == IngressUserConfig()
    assert (settings.alpha, settings.beta, settings.bounds.max_waiting) == (1.0, 0.1, 1024)
    assert settings.score_policy(epoch=3).epoch == 3
    assert settings.score_policy() == ScorePolicy()


def test_what_queues_go_by_is_what_stands_in_the_settings() -> None:
    settings = parse_user_config(
        {
            "policy": "skip_join_mlfq",
            "quantum_tokens": 64,
            "promote_after_s": 9,
            "classes": {
                "urgent": {"min_priority": 5, "ttft_s": 1, "tpot_s": 1, "max_predicted_wait_s": 2},
                "flex": {"min_priority": -100, "ttft_s": 60, "tpot_s": 1},
            },
            "tenants": {"k1": {"name": "a", "weight": 2}, "k2": {"name": "a", "weight": 2}, "k3": {"name": "b"}},
            "bounds": {"max_waiting": 7, "max_waiting_tokens": 70, "max_predicted_wait_s": 30},
        }
    )
    policy, bounds = settings.score_policy(), settings.admission_bounds()
    assert (policy.name, policy.quantum_tokens, policy.promote_after_s) == ("skip_join_mlfq", 64, 9)
    assert (bounds.max_waiting, bounds.max_waiting_tokens) == (7, 70)
    assert [bounds.max_wait_of(name) for name in ("urgent", "flex")] == [2, 30]
    assert settings.tenant_weights() == {"a": 2.0, "b": 1.0}


def test_tiers_that_are_not_named_keep_their_priorities() -> None:
    tiers = parse_user_config({"tiers": {"flex": -20, "batch": -50}}).tiers
    assert tiers == {"flex": -20, "batch": -50, "default": 0, "auto": 0, "priority": 10}


def test_a_key_may_stand_there_itself_or_as_its_digest_in_either_case() -> None:
    keys = ["plain", "sha256:" + "9f" * 32, "sha256:" + "9F" * 32]
    assert list(parse_user_config({"tenants": {key: {"name": "x"} for key in keys}}).tenants) == keys


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"policy": "lottery"}, "user_config.policy: got 'lottery'; expected"),
        ({"quantum_tokens": 0}, "user_config.quantum_tokens: got 0; expected at least 1"),
        ({"alpha": -1}, "user_config.alpha: got -1; expected at least 0"),
        ({"alpha": float("nan")}, "user_config.alpha: got nan; expected a finite number"),
        ({"alpha": 0, "beta": 0}, "user_config.beta: got 0; expected alpha or beta above 0"),
        (
            {"bounded_overtaking": True, "beta": 0},
            "user_config.bounded_overtaking: got True; expected a policy that bounds overtaking (aged or fcfs, "
            "with beta above 0), and policy is aged, beta 0",
        ),
        ({"bounded_overtaking": True, "policy": "strict"}, "and policy is strict, beta 0.1"),
        ({"betta": 1}, "user_config.betta: unknown key, got 1; expected beta"),
        ({"bounds": {"max_wait": 1}}, "user_config.bounds.max_wait: unknown key, got 1; expected max_waiting"),
        ({"bounds": {"max_waiting": 100_001}}, "bounds.max_waiting: got 100001; expected at most 100000"),
        ({"tiers": {"flex": 101}}, "user_config.tiers.flex: got 101; expected at most 100"),
        ({"classes": {}}, "user_config.classes: got {}; expected at least 1 of them"),
        ({"classes": {"a": {"min_priority": 0, "ttft_s": 0, "tpot_s": 1}}}, "ttft_s: got 0; expected more than 0"),
        ({"tenants": {"key": {"name": "x", "wieght": 2}}}, "unknown key, got 2; expected weight"),
        (
            {"tenants": {"a": {"name": "x"}, "key": {"name": 1}}},
            "user_config.tenants[1].name: got 1; expected a string",
        ),
        (
            {"tenants": {"a": {"name": "x", "weight": 2.0}, "b": {"name": "x"}}},
            "one weight for all keys of tenant x, but 2 and 1 stand there",
        ),
        ({"tenants": {"sha256:abc": {"name": "x"}}}, "tenants[0]: got text (not shown); expected sha256: and 64 hex"),
        ([1], "user_config: got a list (not shown); expected an object"),
    ],
)
def test_a_wrong_user_config_is_told_the_same_way(raw: Any, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_user_config(raw)
    assert said in str(refused.value)
