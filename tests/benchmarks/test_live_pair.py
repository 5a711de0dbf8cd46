"""What two settings in turn are compared by, and how a running service is given one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
import yaml

from benchmarks.answers import Answer
from benchmarks.live_config import LiveConfig, is_in_force, with_user_config
from benchmarks.live_pair import _read, service_config
from benchmarks.live_pair_report import MEASURES, LivePairReport, figures
from benchmarks.load import Failure, LevelRun, Workload
from benchmarks.peers.pairs import comparisons
from benchmarks.service import RunningService
from deployments.serve_config import load_serve_config
from fastserve.errors import ServerFailed
from tests.benchmarks.factories import MACHINE


def answer(*text_times_s: float) -> Answer:
    return Answer(0.0, text_times_s, 8, len(text_times_s))


def test_the_figures_of_a_turn_are_of_all_its_answers() -> None:
    run = LevelRun(2, 2.0, [answer(0.1, 0.2, 0.3), answer(0.3, 0.4, 0.9)], [])
    assert figures(run) == pytest.approx([200.0, 100.0, 200.0, 3.0])


def test_a_turn_with_a_failed_request_counts_for_nothing() -> None:
    with pytest.raises(ServerFailed, match="too slow"):
        figures(LevelRun(1, 1.0, [answer(0.1)], [Failure("too slow")]))


def test_the_report_gives_the_ratio_of_each_measure() -> None:
    pairs = [([1.02, 2.0, 2.0, 50.0], [1.0, 2.0, 2.0, 50.0])] * 4
    load = Workload("m", 32, 64, 2, 60)
    report = LivePairReport("2026-01-31", "c", "0", MACHINE, ("{}", "{}"), 4, load, comparisons(MEASURES, pairs))
    assert "| TTFT p50, ms | 1.020 | 1.020 to 1.020 | 1.0 | 1.0 |" in report.to_markdown()


def test_what_is_served_is_a_valid_configuration_under_either_setting(tmp_path: Path) -> None:
    path = tmp_path / "serve_config.yaml"
    for setting in ({"failover": {}}, {"failover": {"max_failovers": 0}}):
        path.write_text(yaml.safe_dump(service_config(setting)))
        load_serve_config(path)


@pytest.mark.parametrize("text", ["{", "7"])
def test_a_setting_that_is_no_json_object_is_refused_by_name(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"--first: expected .*got"):
        _read(text, "--first")


def test_a_setting_is_given_to_the_dashboard_that_the_service_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "service.log"
    log.write_text("ready: http://127.0.0.1:8000/v1 (OpenAI API), dashboard http://127.0.0.1:8265\n")
    given: list[dict[str, Any]] = []

    def answer_as_serve(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            given.append(yaml.safe_load(request.content))
            return httpx.Response(200)
        return httpx.Response(200, json=told(given[-1]["applications"][0]["deployments"][0]["user_config"]))

    client = httpx.Client
    monkeypatch.setattr(
        httpx, "Client", lambda **facts: client(**facts, transport=httpx.MockTransport(answer_as_serve))
    )
    live = LiveConfig.of(RunningService("http://127.0.0.1:8000", 0.0, log), service_config({}))

    live.set_user_config({"alpha": 2.0})

    assert live.dashboard_url == "http://127.0.0.1:8265"
    assert given[0]["http_options"] == {"host": "127.0.0.1", "port": 8000}
    assert with_user_config(service_config({}), {"alpha": 2.0})["applications"] == given[0]["applications"]


def test_a_setting_is_in_force_when_serve_says_so() -> None:
    assert is_in_force(told({"alpha": 2.0}), {"alpha": 2.0})
    assert not is_in_force(told({"alpha": 1.0}), {"alpha": 2.0})
    assert not is_in_force(told({"alpha": 2.0}, status="UPDATING"), {"alpha": 2.0})


def test_a_service_that_names_no_dashboard_cannot_be_changed(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    log.write_text("nothing")
    with pytest.raises(ServerFailed, match="dashboard"):
        LiveConfig.of(RunningService("http://127.0.0.1:8000", 0.0, log), service_config({}))


def told(user_config: dict[str, Any], status: str = "HEALTHY") -> dict[str, Any]:
    ingress = {"status": status, "deployment_config": {"user_config": user_config}}
    return {"applications": {"fastserve": {"status": "RUNNING", "deployments": {"Ingress": ingress}}}}
