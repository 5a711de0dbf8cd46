"""A short load on a service that is only played."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastserve.cli import app
from fastserve.costs_file import read_costs
from fastserve.errors import RequestRefused, ServerUnreachable
from fastserve.streamed_load import LoadLevel, LoadRequest, StreamedAnswer, run_level
from simulation.engine_model import ServiceOverheads
from tests.fastserve.stub_service import Script, stub_service

REQUEST = LoadRequest("tiny", num_prompt_words=3, num_output_tokens=4)
MODELS = {"/v1/models": {"object": "list", "data": [{"id": "tiny", "object": "model"}]}}


def test_every_client_asks_its_requests_one_after_another() -> None:
    script = Script(pieces=["a", "b", "c"])
    with stub_service(script) as base_url:
        level = run_level(base_url, REQUEST, num_clients=2, num_each=3, seed=1)
    assert (level.num_clients, len(level.answers), len(script.asked)) == (2, 6, 6)
    assert len({body["prompt"] for body in script.asked}) == 6
    assert script.asked[0] | {"prompt": ""} == {
        "model": "tiny",
        "prompt": "",
        "max_tokens": 4,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
    }
    assert all(answer.asked_s < answer.first_s <= answer.last_s for answer in level.answers)


def test_times_are_between_asking_and_events() -> None:
    answer = StreamedAnswer(asked_s=1.0, first_s=3.0, last_s=9.0, num_output_tokens=4)
    assert (answer.ttft_s, answer.tpot_s) == (2.0, 2.0)
    assert StreamedAnswer(1.0, 3.0, 3.0, 1).tpot_s is None
    assert LoadLevel(2, 4.0, [answer, answer]).output_tokens_per_s == 2.0


def test_a_refusal_is_told_with_its_status() -> None:
    with stub_service(Script(status=429, body=b"too many")) as base_url, pytest.raises(RequestRefused) as caught:
        run_level(base_url, REQUEST, 1, 1, seed=1)
    assert (caught.value.status, "too many" in str(caught.value)) == (429, True)


@pytest.mark.parametrize("base_url", ["https://127.0.0.1:1", "127.0.0.1:8000"])
def test_an_address_of_another_kind_is_refused(base_url: str) -> None:
    with pytest.raises(ServerUnreachable, match="base_url: expected http://HOST:PORT"):
        run_level(base_url, REQUEST, 1, 1, seed=1)


def test_nobody_at_the_address_is_said_to_be_nobody() -> None:
    with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:1"):
        run_level("http://127.0.0.1:1", REQUEST, 1, 1, seed=1)


def test_an_answer_without_events_is_none() -> None:
    with stub_service(Script(pieces=[], complete=False)) as base_url, pytest.raises(ServerUnreachable, match="without"):
        run_level(base_url, REQUEST, 1, 1, seed=1)


def test_bench_shows_a_short_load() -> None:
    with stub_service(Script(documents=MODELS)) as base_url:
        done = CliRunner().invoke(app, ["bench", "--base-url", base_url, "--clients", "1", "--clients", "2"])
    assert done.exit_code == 0, done.output
    assert "tiny" in done.output


def test_bench_needs_something_to_measure() -> None:
    done = CliRunner().invoke(app, ["bench"])
    assert done.exit_code == 2
    assert "--base-url" in done.output


CONFIG = """
applications:
- name: fastserve
  import_path: deployments.app:build
  args:
    models:
    - {name: tiny, source: fake, backend: fake, max_num_seqs: 4, fake_step_s: 0.0, tensor_parallel_size: RANKS}
"""


def calibrate(folder: Path, num_ranks: int) -> tuple[int, str]:
    config = folder / "serve_config.yaml"
    config.write_text(CONFIG.replace("RANKS", str(num_ranks)))
    given = ["bench", str(config), "--calibrate", "--rounds", "2", "--out", str(folder / "costs.json")]
    done = CliRunner().invoke(app, given)
    return done.exit_code, done.output


def test_bench_calibrates_on_the_configured_engine(tmp_path: Path) -> None:
    code, output = calibrate(tmp_path, num_ranks=1)
    assert code == 0, output
    costs = read_costs(tmp_path / "costs.json")
    assert (costs.model, costs.overheads) == ("tiny", ServiceOverheads())
    assert costs.provenance["service"] == "not measured: nothing is added to the engine"


def test_bench_refuses_to_calibrate_several_ranks(tmp_path: Path) -> None:
    code, output = calibrate(tmp_path, num_ranks=2)
    assert (code, "tensor_parallel_size: expected 1" in output) == (1, True)
