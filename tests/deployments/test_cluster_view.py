"""What the ingress says of the cluster while the cluster ails: a 503 or a gap, never a crash."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.exceptions import ActorUnavailableError, RayError
from ray.serve.schema import ApplicationStatus

from deployments.cluster_view import ServeClusterView
from deployments.errors import ApiError
from deployments.queueing.membership import Membership
from deployments.telemetry.metrics_reporter import MetricsReporter
from tests.deployments.fake_service import empty_queue

FAILURES = [RuntimeError("Ray has been shut down"), ConnectionError("GCS"), ActorUnavailableError("it restarts", None)]


class Queue:
    async def snapshot(self) -> object:
        return empty_queue()


class Hub:
    """A metrics hub whose text is `text`, or cannot be had."""

    def __init__(self, text: str | Exception) -> None:
        self._text = text
        self.text = SimpleNamespace(remote=self._answer)

    async def _answer(self) -> str:
        if isinstance(self._text, Exception):
            raise self._text
        return self._text


class Reporter:
    """Finds the hub that it was given."""

    def __init__(self, hub: Hub | None) -> None:
        self._hub = hub

    async def report(self) -> Hub | None:
        return self._hub


def view_of(
    *models: str,
    found: object = None,
    hub: Hub | None = None,
    status: ApplicationStatus = ApplicationStatus.RUNNING,
) -> ServeClusterView:
    """found: the queue of each model, or what looking for it raises."""

    async def find(app_name: str, name: str) -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    return ServeClusterView("app", models, cast("MetricsReporter", Reporter(hub)), find, lambda _: status)


async def test_a_running_application_whose_queues_are_up_is_ready() -> None:
    assert await view_of("m", found=Queue()).why_not_ready() is None
    assert await view_of("m", found=None).why_not_ready() == "the queue of m is not up"
    deploying = view_of("m", found=Queue(), status=ApplicationStatus.DEPLOYING)
    assert await deploying.why_not_ready() == "application app is DEPLOYING"


async def test_those_who_ask_at_the_same_time_share_one_look_though_one_of_them_goes_away() -> None:
    looks: list[str] = []
    is_looking, goes_on = asyncio.Event(), asyncio.Event()

    async def find(app_name: str, name: str) -> Any:
        looks.append(name)
        is_looking.set()
        await goes_on.wait()
        return Queue()

    reporter = cast("MetricsReporter", Reporter(None))
    view = ServeClusterView("app", ["m"], reporter, find, lambda _: ApplicationStatus.RUNNING)
    first, *others = (asyncio.create_task(view.why_not_ready()) for _ in range(100))
    await is_looking.wait()
    first.cancel()
    goes_on.set()
    assert await asyncio.gather(*others) == [None] * 99
    assert looks == ["m"]

    assert await view.why_not_ready() is None
    assert looks == ["m", "m"]


async def test_a_model_that_can_serve_no_more_makes_the_service_not_ready_until_it_can_again() -> None:
    view = view_of("m", "other", found=Queue())
    assert await view.why_not_ready() is None

    view.follow("other", Membership(frozenset(), can_serve=False))
    assert await view.why_not_ready() == "other failed to deploy, and no replica of it runs"

    view.follow("other", Membership(frozenset(), can_serve=True))
    assert await view.why_not_ready() is None


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_queue_that_cannot_be_looked_for_makes_the_service_not_ready(failure: Exception) -> None:
    reason = await view_of("m", found=failure).why_not_ready()

    assert reason == f"the cluster cannot be asked now ({type(failure).__name__})"


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_queue_that_cannot_be_looked_for_is_left_out(failure: Exception) -> None:
    assert await view_of("m", found=Queue()).queue_snapshots() == {"m": empty_queue()}
    assert await view_of("m", found=failure).queue_snapshots() == {}


@pytest.mark.parametrize("hub", [None, *(Hub(failure) for failure in FAILURES), Hub(RayError())])
async def test_metrics_that_cannot_be_had_are_a_503(hub: Hub | None) -> None:
    with pytest.raises(ApiError) as raised:
        await view_of("m", hub=hub).metrics_text()

    assert (raised.value.status, raised.value.code) == (503, "not_ready")


async def test_metrics_are_what_the_hub_says() -> None:
    assert await view_of("m", hub=Hub("vllm:num_requests_running 1")).metrics_text() == "vllm:num_requests_running 1"
