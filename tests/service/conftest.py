"""Services that the tests of this folder share. Each is started once for the module that asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.running import Service, running_service, serve_config

MODEL = "SmolLM2-135M-Instruct"
EMBEDDED = {"name": MODEL, "source": f"embedded:{MODEL}", "kv_cache_tokens": 32_768}


@pytest.fixture(scope="module")
def default_service() -> Iterator[Service]:
    """The shipped model as it is shipped, in bfloat16 at tp=1, behind two ingress replicas."""
    with running_service(serve_config(EMBEDDED, num_ingress=2)) as service:
        yield service


@pytest.fixture(scope="module")
def float32_service() -> Iterator[Service]:
    """The shipped model in float32 at tp=1: for equal text."""
    with running_service(serve_config({**EMBEDDED, "dtype": "float32"})) as service:
        yield service


@pytest.fixture(scope="module")
def one_slot_tp2_service() -> Iterator[Service]:
    """Two ranks, one slot, two ingress replicas. In float32, where two ranks answer as one does.

    Whoever waits may wait long: for one slot thirty do, on whatever machine.
    """
    model = {**EMBEDDED, "dtype": "float32", "tensor_parallel_size": 2, "max_num_seqs": 1, "num_threads": 1}
    user_config = {"bounds": {"max_predicted_wait_s": 600}}
    with running_service(serve_config(model, num_ingress=2, user_config=user_config)) as service:
        yield service
