"""What Serve is told of the deployments."""

from __future__ import annotations

import pytest
import ray

from deployments.app import SILENCE_S, build
from deployments.config import ServingConfig

MODEL = {"name": "m", "source": "embedded:SmolLM2-135M-Instruct"}


def test_serve_takes_neither_an_ingress_nor_a_replica_for_well_that_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", dict)
    ingress = build(ServingConfig.model_validate({"models": [MODEL]}))._bound_deployment
    models = ingress.init_args[1]
    for deployment in (ingress, models["m"]._bound_deployment):
        assert deployment._deployment_config.health_check_timeout_s == SILENCE_S
