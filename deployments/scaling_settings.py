"""Owns the settings of our autoscaling policy, and what Serve's own settings beside it may be. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from deployments.config_errors import ConfigError
from deployments.problems import Problem
from deployments.settings import Positive, TopSettings
from scheduling.autoscaling import ScalingLimits

POLICY_FUNCTION = "deployments.autoscaling:ByObjectives"
POLICY_FUNCTIONS = (POLICY_FUNCTION, POLICY_FUNCTION.replace(":", "."))  # both are Serve's
_MUST_BE_0 = ("upscale_delay_s", "downscale_delay_s")  # Serve's default is to wait, on top of the policy's windows
_MAY_BE = {
    "downscale_to_zero_delay_s": 0,
    "upscaling_factor": 1,
    "downscaling_factor": 1,
    "upscale_smoothing_factor": 1,
    "downscale_smoothing_factor": 1,
    "smoothing_factor": 1,
}
_OURS = "the policy has windows of its own, in policy.policy_kwargs"


class ScalingSettings(TopSettings):
    """`policy_kwargs`. See `ScalingLimits` for what they mean."""

    max_replicas_for_sheddable: Annotated[int, Field(ge=1)] = 1
    downscale_window_s: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    idle_window_s: Annotated[float, Field(ge=0, le=604_800)] = 900.0
    margin: Annotated[float, Field(gt=0, le=1)] = 0.8
    assumed_startup_s: Annotated[Positive, Field(le=3_600)] = 30.0

    @classmethod
    def default_path(cls) -> str:
        return "autoscaling_config.policy.policy_kwargs"

    def limits(self) -> ScalingLimits:
        """With bounds that Serve's settings replace."""
        return ScalingLimits(**self.model_dump())


def scaling_problems(path: str, autoscaling: dict[str, Any], *, is_model: bool) -> Iterator[Problem]:
    """Of an `autoscaling_config` that stands at `path`: what keeps our policy, where it is named, from deciding."""
    policy = autoscaling.get("policy")
    if not isinstance(policy, dict) or policy.get("policy_function") not in POLICY_FUNCTIONS:
        return
    if not is_model:
        yield Problem(f"{path}.policy.policy_function", "invalid", POLICY_FUNCTION, "it on models: they have a queue")
    try:
        context = {"path": f"{path}.policy.policy_kwargs"}
        ScalingSettings.model_validate(policy.get("policy_kwargs") or {}, context=context)
    except ConfigError as error:
        yield from error.problems
    for name in _MUST_BE_0:
        if (value := autoscaling.get(name)) is None:
            yield Problem(f"{path}.{name}", "missing", None, f"0: {_OURS}")
        elif value != 0:
            yield Problem(f"{path}.{name}", "invalid", value, f"0: {_OURS}")
    for name, neutral in _MAY_BE.items():
        if autoscaling.get(name) not in (None, neutral):
            yield Problem(f"{path}.{name}", "invalid", autoscaling[name], f"{neutral}, or none: {_OURS}")
