"""The whole command, against services in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from benchmarks.mixed_priority import app
from tests.benchmarks.stub_completions import Completions, stub_completions

TINY = """\
classes:
  urgent: {share: 0.5, priority: 10, prompt_tokens: 4, output_tokens: 2, ttft_s: 1.0, tpot_s: 0.2}
  flex: {share: 0.5, priority: -10, prompt_tokens: 8, output_tokens: 3, ttft_s: 60.0, tpot_s: 2.0}
"""
TENANTS = "tenants:\n  a: {share: 0.5, api_key: key-of-a}\n  b: {share: 0.5}\n"
TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:00:{second:02}.0000000,40,20\n" for second in range(60)
)
SHORT = ["--rate", "40", "--duration-s", "0.5", "--idle-requests", "2", "--idle-rate", "20"]
NUM_BEFORE = 1 + 16  # the first answer and the warm-up


def run(folder: Path, *arguments: str, traffic: str = TINY) -> Result:
    folder.mkdir(exist_ok=True)
    path = folder / "traffic.yaml"
    path.write_text(traffic)
    return CliRunner().invoke(app, ["--traffic", str(path), "--results", str(folder / "results"), *arguments])


def written(folder: Path) -> dict[str, Any]:
    (path,) = (folder / "results").glob("*.json")
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def test_every_request_of_the_schedule_is_sent_and_its_class_reported(tmp_path: Path) -> None:
    completions = Completions()
    with stub_completions(completions) as url:
        done = run(tmp_path, "--base-url", url, *SHORT)

    document = written(tmp_path)
    assert done.exit_code in (0, 1), done.output  # 1 where this machine kept the sender waiting
    assert (done.exit_code == 0) == document["is_valid"]
    (side,) = document["sides"]
    assert side["idle"]["completed"] == 2
    assert side["total"]["offered"] == side["total"]["completed"] == len(completions.asked) - NUM_BEFORE - 2
    assert sum(each["offered"] for each in side["classes"]) == side["total"]["offered"]
    assert {(body["priority"], body["max_tokens"]) for body in completions.asked[NUM_BEFORE:]} == {(10, 2), (-10, 3)}
    assert len({body["prompt"] for body in completions.asked}) == len(completions.asked)
    assert "| class | offered | completed | refused | failed |" in done.output


def test_the_same_seed_asks_for_the_same_and_never_in_the_same_words(tmp_path: Path) -> None:
    asked = []
    for _ in range(2):
        completions = Completions()
        with stub_completions(completions) as url:
            run(tmp_path, "--base-url", url, *SHORT, "--seed", "5")
        asked.append(completions.asked[NUM_BEFORE:])

    first, second = asked
    assert sorted(body["max_tokens"] for body in first) == sorted(body["max_tokens"] for body in second)
    assert {body["prompt"] for body in first} & {body["prompt"] for body in second} == set()


def test_a_peer_is_asked_the_same_with_priority_its_own_way_and_without_our_keys(tmp_path: Path) -> None:
    ours, peers = Completions(), Completions()
    with stub_completions(ours) as url, stub_completions(peers) as peer_url:
        done = run(
            *(tmp_path, "--base-url", url, *SHORT, "--peer-url", peer_url, "--peer-model", "theirs"),
            *("--peer-priority-runs", "lower-first"),
            traffic=TINY + TENANTS,
        )

    document = written(tmp_path)
    assert [side["name"] for side in document["sides"]] == ["service", "peer"]
    assert document["num_rounds"] == 2
    assert "urgent: TTFT p95, ms" in document["ratios"]
    assert {body["model"] for body in peers.asked} == {"theirs"}
    assert sorted((body["prompt"], body["priority"]) for body in ours.asked) == sorted(
        (body["prompt"], -body["priority"]) for body in peers.asked
    )
    assert set(ours.keys) == {"Bearer key-of-a", None}
    assert set(peers.keys) == {None}
    assert "key-of-a" not in done.output + json.dumps(document)
    assert {each["name"] for each in document["sides"][0]["tenants"]} == {"a", "b"}


def test_a_load_is_a_multiple_of_the_capacity_that_was_measured(tmp_path: Path) -> None:
    with stub_completions(Completions()) as url:
        done = run(
            *(tmp_path, "--base-url", url, "--load", "0.1", "--capacity-level-s", "0.2", "--duration-s", "0.3"),
            *("--idle-requests", "1", "--max-clients", "4096"),
        )

    document = written(tmp_path)
    assert done.exit_code in (0, 1), done.output
    assert document["rate_per_s"] == pytest.approx(0.1 * document["capacity_per_s"])
    assert [level["num_clients"] for level in document["capacity"]["levels"]][:2] == [4, 8]


def test_a_trace_is_replayed_at_the_rate_asked_for_and_the_report_says_how(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(TRACE)
    completions = Completions()
    with stub_completions(completions) as url:
        run(tmp_path, "--base-url", url, *SHORT, "--trace", str(trace), "--scale-outputs", "0.25")

    document = written(tmp_path)
    assert document["sides"][0]["total"]["offered"] == 20
    assert {body["max_tokens"] for body in completions.asked[NUM_BEFORE:]} == {5}
    assert "The first 20 requests of `trace.csv` (60) at 40 times their recorded speed" in document["arrivals"]


def test_broken_rows_of_a_trace_end_the_run_unless_they_may_be_skipped(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(TRACE + "2023-11-16 18:01:00.0000000,many,20\n")
    with stub_completions(Completions()) as url:
        refused = run(tmp_path, "--base-url", url, *SHORT, "--trace", str(trace))
        run(tmp_path, "--base-url", url, *SHORT, "--trace", str(trace), "--skip-broken")

    assert refused.exit_code == 2
    assert f"{trace}, line 62, column ContextTokens: expected a whole number" in refused.output
    assert "1 broken rows left out" in written(tmp_path)["arrivals"]


def test_refusals_are_counted_apart_and_a_client_that_comes_back_is_reported(tmp_path: Path) -> None:
    refused = range(NUM_BEFORE + 2, NUM_BEFORE + 5)
    with stub_completions(Completions(refused=refused, retry_after="0")) as url:
        stays = run(tmp_path, "--base-url", url, *SHORT)
    (side,) = written(tmp_path)["sides"]

    assert "times 429, Retry-After p50 0 s, at most 0 s" in stays.output
    assert side["total"]["refused"] == 3
    assert side["total"]["refusals"] == [
        {"status": 429, "number": 3, "retry_after_p50_s": 0.0, "retry_after_max_s": 0.0}
    ]
    assert side["returns"] is None

    with stub_completions(Completions(refused=refused, retry_after="0")) as url:
        run(tmp_path / "again", "--base-url", url, *SHORT, "--retry")
    (side,) = written(tmp_path / "again")["sides"]

    assert (side["total"]["refused"], side["total"]["refusals"][0]["number"]) == (0, 3)
    assert side["returns"]["num_returned"] == side["returns"]["num_told"] > 0


def test_failed_requests_end_with_1_and_are_named(tmp_path: Path) -> None:
    failing = Completions(refused=range(NUM_BEFORE + 3, NUM_BEFORE + 4), refused_with=500)
    with stub_completions(failing) as url:
        done = run(tmp_path, "--base-url", url, *SHORT)

    assert done.exit_code == 1
    assert written(tmp_path)["sides"][0]["failures"] == ['Refused: 500: {"error": {"message": "queue full"}}']


def test_a_service_whose_first_answer_fails_is_not_measured(tmp_path: Path) -> None:
    with stub_completions(Completions(refused=range(1))) as url:
        done = run(tmp_path, "--base-url", url, *SHORT)

    assert done.exit_code == 2
    assert "the first request" in done.output
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--rate, --load, --trace: expected"),
        (["--rate", "1", "--load", "2"], "--rate, --load: expected one of the two"),
        (["--rate", "1", "--peer-url", "http://127.0.0.1:9"], "--peer-priority-runs: expected"),
        (["--rate", "1", "--base-url", "http://127.0.0.1:9"], "http://127.0.0.1:9"),
        (["--rate", "1", "--trace", "nowhere.csv"], "nowhere.csv"),
        (["--rate", "nan"], "--rate"),
        (["--rate", "1", "--duration-s", "inf"], "--duration-s"),
    ],
)
def test_what_cannot_be_run_ends_with_2_and_says_why(tmp_path: Path, arguments: list[str], named: str) -> None:
    done = run(tmp_path, *arguments)

    assert done.exit_code == 2
    assert named in " ".join(done.output.replace("│", " ").split())
    assert "Traceback" not in done.output


def test_wrong_traffic_ends_with_2_and_names_the_key(tmp_path: Path) -> None:
    done = run(tmp_path, "--rate", "1", traffic=TINY.replace("share: 0.5, priority: 10", "portion: 0.5, priority: 10"))

    assert done.exit_code == 2
    assert "classes.urgent.portion: unknown key" in done.output
