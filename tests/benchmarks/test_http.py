"""The whole command, against a service in this process."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from benchmarks.http import app, measure
from benchmarks.target import Target
from tests.benchmarks.factories import make_workload
from tests.benchmarks.stub_completions import Completions, stub_completions

SMALL = ["--clients", "1", "--clients", "2", "--rounds", "2", "--requests", "1", "--output-tokens", "3"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_every_level_is_measured_in_every_round_and_written_down(tmp_path: Path) -> None:
    completions = Completions()
    with stub_completions(completions) as url:
        done = run("--base-url", url, *SMALL, "--results", str(tmp_path))

    assert done.exit_code == 0, done.output
    assert "| clients | output tokens/s |" in done.output
    (written,) = tmp_path.glob("*.json")
    document = json.loads(written.read_text())
    assert [(level["num_clients"], level["num_answers"]) for level in document["levels"]] == [(1, 2), (2, 4)]
    assert document["workload"]["model"] == "stub"
    assert document["startup_s"] is None
    first, warm_up, measured = completions.asked[0], completions.asked[1:3], completions.asked[3:]
    assert (first["max_tokens"], len(warm_up), len(measured)) == (1, 2, 6)


def test_failed_requests_are_written_down_and_end_with_1(tmp_path: Path) -> None:
    with stub_completions(Completions(refused=range(3, 5))) as url:
        done = run("--base-url", url, *SMALL, "--results", str(tmp_path))

    assert done.exit_code == 1
    (written,) = tmp_path.glob("*.json")
    document = json.loads(written.read_text())
    assert sum(level["num_failed"] for level in document["levels"]) == 2
    assert ["queue full" in reason for reason in document["failures"]] == [True]


def test_a_service_whose_first_answer_fails_is_not_measured(tmp_path: Path) -> None:
    with stub_completions(Completions(refused=range(1))) as url:
        done = run("--base-url", url, *SMALL, "--results", str(tmp_path))

    assert done.exit_code == 2
    assert "queue full" in done.output
    assert list(tmp_path.iterdir()) == []


def test_nobody_there_ends_with_2_and_one_line(tmp_path: Path) -> None:
    done = run("--base-url", "http://127.0.0.1:9", "--results", str(tmp_path))

    assert done.exit_code == 2
    assert "http://127.0.0.1:9" in done.output
    assert "Traceback" not in done.output


def test_a_wrong_configuration_ends_with_2_and_names_the_key(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text((Path(__file__).parents[2] / "serve_config.yaml").read_text().replace("beta:", "betta:"))

    done = run("--config", str(config), "--results", str(tmp_path))

    assert done.exit_code == 2
    assert "betta" in done.output


def test_a_service_that_cannot_start_ends_with_2_and_its_last_words(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    text = (Path(__file__).parents[2] / "serve_config.yaml").read_text()
    config.write_text(text.replace("embedded:SmolLM2-135M-Instruct", str(tmp_path / "nowhere")))

    done = run("--config", str(config), "--results", str(tmp_path / "results"))

    assert done.exit_code == 2
    assert "the service ended with" in done.output
    assert "nowhere" in done.output


async def test_the_start_is_timed_to_the_first_answer_where_the_command_was_ours() -> None:
    with stub_completions(Completions()) as url:
        ours = await measure(Target(url, 0.0, None), make_workload(), [[1]])
        running = await measure(Target(url, None, None), make_workload(), [[1]])

    assert ours.startup_s is not None
    assert ours.startup_s > 0
    assert running.startup_s is None
