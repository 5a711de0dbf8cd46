"""What a results file says, and where it goes."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.report import distinct_reasons, write_report
from tests.benchmarks.factories import make_report


def test_the_table_has_a_row_for_each_number_of_clients() -> None:
    lines = make_report().to_markdown().splitlines()
    table = [line for line in lines if line.startswith("|")]

    assert table == [
        "| clients | output tokens/s | TTFT p50 | TTFT p95 | ITL p50 | ITL p99 | answers | failed |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| 1 | 4.5 (3.0 to 6.0) | 200.0 | 300.0 | 100.0 | 200.0 | 4 | 0 |",
        "| 8 | 0.0 (0.0 to 0.0) | - | - | - | - | 0 | 2 |",
    ]


def test_the_page_says_where_its_numbers_come_from() -> None:
    page = make_report().to_markdown()

    assert "- from command to first answer: 41.3 s" in page
    assert "- command: `python -m benchmarks.http`" in page
    assert "- commit: `0123456789ab`" in page
    assert "- hardware: 2 cores of x86_64 (avx512f, avx512_bf16), 24 GiB of memory, no GPU" in page
    assert '- model settings: `{"max_num_seqs": 32}`' in page


def test_a_service_that_ran_already_has_no_start_and_no_settings() -> None:
    page = make_report(startup_s=None, settings=None).to_markdown()

    assert "not measured: the service ran already" in page
    assert "model settings" not in page


def test_failed_requests_are_listed_only_where_there_are_any() -> None:
    assert "429: queue full" in make_report(failures=["429: queue full"]).to_markdown()
    assert "Failed requests" not in make_report().to_markdown()


def test_each_reason_stands_once_and_there_are_not_many() -> None:
    assert distinct_reasons(["b", "a", "b"]) == ["b", "a"]
    assert len(distinct_reasons([str(number) for number in range(1000)])) == 10


def test_the_json_holds_every_number_of_the_table(tmp_path: Path) -> None:
    path = write_report(make_report(), tmp_path, "http")
    document = json.loads(path.with_suffix(".json").read_text())

    assert document["benchmark"] == "http"
    assert document["startup_s"] == 41.26
    assert document["machine"]["cores"] == 2
    assert document["workload"]["num_output_tokens"] == 3
    assert [level["num_clients"] for level in document["levels"]] == [1, 8]
    assert document["levels"][0]["output_tokens_per_s_by_round"] == [6.0, 3.0]


def test_results_of_the_same_day_stand_beside_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "results"

    names = [write_report(make_report(), folder, "http").name for _ in range(3)]

    assert names == ["2026-01-31-http.md", "2026-01-31-http-2.md", "2026-01-31-http-3.md"]
    assert len(list(folder.iterdir())) == 6
