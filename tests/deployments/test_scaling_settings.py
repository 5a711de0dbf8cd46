"""Our policy in the file: its settings, and Serve's own beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.autoscaling import MAX_AGE_S
from cluster.latest import MAX_PAUSE_S
from deployments.config_errors import ConfigError
from deployments.queue_load import ANSWER_S
from deployments.scaling_settings import POLICY_FUNCTION, ScalingSettings, scaling_problems
from deployments.serve_config import load_serve_config
from scheduling.autoscaling import ScalingLimits

ROOT = Path(__file__).parents[2]


def problems(*, is_model: bool = True, kwargs: object = None, **changed: Any) -> list[str]:
    """Of settings with which nothing is wrong but what is `changed`."""
    policy = {"policy_function": POLICY_FUNCTION, "policy_kwargs": {} if kwargs is None else kwargs}
    autoscaling = {"upscale_delay_s": 0, "downscale_delay_s": 0, "policy": policy, **changed}
    return [str(problem) for problem in scaling_problems("here", autoscaling, is_model=is_model)]


def test_the_settings_that_are_not_given_are_those_of_the_limits() -> None:
    assert ScalingSettings().limits() == ScalingLimits()


def test_every_setting_reaches_the_limits() -> None:
    given = {
        "max_replicas_for_sheddable": 2,
        "downscale_window_s": 10.0,
        "idle_window_s": 20.0,
        "margin": 0.5,
        "assumed_startup_s": 5.0,
    }
    assert ScalingSettings.model_validate(given).limits() == ScalingLimits(**given)  # type: ignore[arg-type]
    assert given.keys() == ScalingSettings.model_fields.keys()


def test_what_is_right_has_no_problem() -> None:
    assert problems() == []
    assert problems(upscaling_factor=1, downscale_to_zero_delay_s=0.0, kwargs={"margin": 0.7}) == []
    assert problems(policy={"policy_function": POLICY_FUNCTION.replace(":", ".")}) == []


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"max_replicas_for_sheddable": 0}, "max_replicas_for_sheddable: got 0; expected at least 1"),
        ({"max_replicas_for_sheddable": 1.5}, "max_replicas_for_sheddable: got 1.5; expected a whole number"),
        ({"downscale_window_s": -1}, "downscale_window_s: got -1; expected at least 0"),
        ({"idle_window_s": float("nan")}, "idle_window_s: got nan; expected a finite number"),
        ({"margin": 0}, "margin: got 0; expected more than 0"),
        ({"margin": "1"}, "margin: got '1'; expected a number"),
        ({"assumed_startup_s": 0}, "assumed_startup_s: got 0; expected more than 0"),
        ({"downscale_windov_s": 1}, "downscale_windov_s: unknown key, got 1; expected downscale_window_s (or"),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(kwargs: dict[str, Any], said: str) -> None:
    [problem] = problems(kwargs=kwargs)
    assert problem.startswith(f"here.policy.policy_kwargs.{said}")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"upscale_delay_s": 30}, "here.upscale_delay_s: got 30; expected 0: the policy has windows of its own"),
        ({"downscale_delay_s": None}, "here.downscale_delay_s: missing; expected 0: the policy has windows"),
        ({"downscale_to_zero_delay_s": 5}, "here.downscale_to_zero_delay_s: got 5; expected 0, or none"),
        ({"upscaling_factor": 0.5}, "here.upscaling_factor: got 0.5; expected 1, or none"),
        ({"smoothing_factor": 2}, "here.smoothing_factor: got 2; expected 1, or none"),
    ],
)
def test_what_serve_would_do_on_top_of_the_policy_is_refused(changed: dict[str, Any], said: str) -> None:
    [problem] = problems(**changed)
    assert problem.startswith(said)


def test_a_deployment_without_a_queue_cannot_have_the_policy() -> None:
    [problem] = problems(is_model=False)
    assert problem == f"here.policy.policy_function: got '{POLICY_FUNCTION}'; expected it on models: they have a queue"


@pytest.mark.parametrize("policy", [None, "text", {}, {"policy_function": "ray.serve.autoscaling_policy:other"}])
def test_another_policy_is_none_of_our_business(policy: object) -> None:
    assert problems(policy=policy, upscale_delay_s=30) == []


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("upscale_delay_s: 0", "upscale_delay_s: 5", "autoscaling_config.upscale_delay_s: got 5; expected 0"),
        ("idle_window_s: 900", "idle_windov_s: 9", "policy.policy_kwargs.idle_windov_s: unknown key"),
        ("policy_kwargs:", "policy_kwarg:", "autoscaling_config.policy.policy_kwarg: unknown key"),
        ("autoscaling:ByObjectives", "autoscaling:Nobody", "policy_function: got 'deployments.autoscaling:Nobody'"),
        ("deployments.autoscaling:", "nowhere.to.be:", "policy_function: got 'nowhere.to.be:ByObjectives'"),
        ("deployments.autoscaling:ByO", "O", "policy.policy_function: got 'Objectives'; expected module:class"),
    ],
)
def test_the_file_is_refused_for_what_keeps_the_policy_from_deciding(
    tmp_path: Path, good: str, bad: str, said: str
) -> None:
    shipped = (ROOT / "serve_config.yaml").read_text()
    assert good in shipped
    path = tmp_path / "serve_config.yaml"
    path.write_text(shipped.replace(good, bad))

    with pytest.raises(ConfigError) as refused:
        load_serve_config(path)

    assert said in str(refused.value)


def test_a_load_is_not_called_old_while_the_next_may_yet_come() -> None:
    assert MAX_AGE_S > MAX_PAUSE_S + ANSWER_S
