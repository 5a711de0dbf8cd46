"""A small Ray cluster of this test folder's own, started once and shut down at its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # unset, Ray sets it for this process and all that it starts later
        ray.init(num_cpus=2, num_gpus=8, include_dashboard=False, configure_logging=False, log_to_driver=False)
        yield
        ray.shutdown()
