"""The policy in Serve's own hands: made, pickled, called. Fails loudly when Ray changes what we use; no cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve._private.constants import DEFAULT_AUTOSCALING_POLICY_NAME
from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from cluster.autoscaling import ReadLoad
from deployments.autoscaling import ByObjectives
from deployments.config_errors import ConfigError
from deployments.scaling_settings import POLICY_FUNCTION
from scheduling.autoscaling import ClassLoad, ScalingLoad
from tests.cluster.serve_context import context

ROOT = Path(__file__).parents[2]
BUSY = ScalingLoad(
    (ClassLoad("standard", objective_s=1.0, num_waiting=1, tokens_waiting=250, tokens_ahead=250),),
    tokens_per_s=100.0,
    startup_s=0.0,
)


def shipped() -> dict[str, Any]:
    """The model's `autoscaling_config` of `serve_config.yaml`."""
    document = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    [application] = document["applications"]
    [config] = [one["autoscaling_config"] for one in application["deployments"] if "autoscaling_config" in one]
    return dict(config)


class Settled(ByObjectives):
    """Has read its queue."""

    def reader(self, context: AutoscalingContext) -> ReadLoad:
        return lambda max_age_s: BUSY


def test_serve_takes_the_number_of_the_shipped_policy_at_once_and_as_it_is() -> None:
    config = AutoscalingConfig(**shipped())
    asked = context(running=1, target=1, most=10)
    asked.config = config

    policy = _apply_autoscaling_config(Settled(**config.policy.policy_kwargs))

    assert policy(asked)[0] == 3


def test_serve_resolves_the_class_once_from_what_it_pickled() -> None:
    config = AutoscalingConfig(**shipped())
    assert not config.policy.is_default_policy_function()
    assert config.policy.policy_function == POLICY_FUNCTION != DEFAULT_AUTOSCALING_POLICY_NAME

    policy = _resolve_policy_callable(config.policy)

    assert type(policy).__name__ == ByObjectives.__name__


def test_at_zero_replicas_serve_wakes_a_model_itself_before_the_policy_is_asked() -> None:
    def never(_: Any) -> Any:
        raise AssertionError("the policy was asked")

    assert _apply_autoscaling_config(never)(context(running=0, target=0, num_requests=1.0))[0] == 1


def test_the_policy_that_serve_pickles_needs_no_torch_where_it_is_read() -> None:
    script = (
        "import sys\n"
        "from ray.serve.config import AutoscalingConfig\n"
        f"config = AutoscalingConfig(policy={{'policy_function': {POLICY_FUNCTION!r}}})\n"
        "config.policy.get_policy()()\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_a_wrong_setting_is_an_error_that_names_it() -> None:
    with pytest.raises(ConfigError, match="margin: got 2; expected at most 1"):
        ByObjectives(margin=2)
    with pytest.raises(ConfigError, match="windov: unknown key"):
        ByObjectives(windov=2)
