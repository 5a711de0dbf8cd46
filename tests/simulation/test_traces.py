"""Recorded traffic: both forms, and every way in which a row can be broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation.lengths import Size
from simulation.traces import TraceBroken, read_trace
from simulation.workload import Recorded

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
BURST_GPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
SHIPPED = Path(__file__).parents[2] / "benchmarks/traces/azure_llm_2023_conversation.csv"


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text, newline="")
    return path


def azure(*rows: str) -> str:
    return AZURE + "".join(f"2023-11-16 {row}\r\n" for row in rows)


def test_an_azure_trace_keeps_all_seven_digits_and_begins_at_0(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, azure("23:59:59.9999999,374,44", "23:59:59.9999999,1,2")))
    later = read_trace(written(tmp_path, AZURE + "2023-11-16 23:59:59.9999999,1,1\n2023-11-17 00:00:00.0000001,2,3\n"))

    assert trace.requests == (Recorded(0.0, Size(374, 44)), Recorded(0.0, Size(1, 2)))
    assert later.requests[1] == Recorded(2e-7, Size(2, 3))


def test_times_without_a_fraction_and_with_an_offset_are_read_too(tmp_path: Path) -> None:
    trace = read_trace(
        written(tmp_path, AZURE + "2024-05-10 01:00:00+01:00,1,1\n2024-05-10 00:00:01.500000+00:00,1,1\n")
    )

    assert [each.at_s for each in trace.requests] == [0.0, 1.5]


def test_a_burst_gpt_trace_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    rows = "5,ChatGPT,472,18,490,Conversation log\n45.25,GPT-4,1087,230,1317,API log\n"
    longer = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"

    trace = read_trace(written(tmp_path, BURST_GPT + rows))
    with_sessions = read_trace(written(tmp_path, longer + "5,a,1.5,ChatGPT,472,18,490,Conversation log\n"))

    assert trace.requests == (Recorded(0.0, Size(472, 18)), Recorded(40.25, Size(1087, 230)))
    assert with_sessions.requests == (Recorded(0.0, Size(472, 18)),)


def test_the_shipped_trace_is_whole() -> None:
    trace = read_trace(SHIPPED)

    assert (len(trace.requests), trace.num_skipped) == (19_366, 0)
    assert trace.requests[0] == Recorded(0.0, Size(374, 44))
    assert trace.duration_s == pytest.approx(3501.721937)
    assert trace.rate_per_s == pytest.approx(5.53, abs=0.01)


@pytest.mark.parametrize(
    ("row", "column", "value", "expected"),
    [
        ("18:00:01,374", "GeneratedTokens", None, "a whole number"),
        ("18:00:01,374,", "GeneratedTokens", "", "a whole number"),
        ("18:00:01,many,44", "ContextTokens", "many", "a whole number"),
        ("18:00:01,374.5,44", "ContextTokens", "374.5", "a whole number"),
        ("18:00:01,-3,44", "ContextTokens", "-3", "a whole number of at least 1"),
        ("18:00:01,3,0", "GeneratedTokens", "0", "a whole number of at least 1"),
        (f"18:00:01,3,{'9' * 5000}", "GeneratedTokens", "9" * 5000, "a whole number"),
        ("25:00:01,3,4", "TIMESTAMP", "2023-11-16 25:00:01", "a time like 2023-11-16"),
        ("yesterday,3,4", "TIMESTAMP", "2023-11-16 yesterday", "a time like 2023-11-16"),
        ("17:59:59.9999999,3,4", "TIMESTAMP", "2023-11-16 17:59:59.9999999", "no time before that of the row above"),
    ],
)
def test_a_broken_row_is_named_with_its_place_its_value_and_what_was_expected(
    tmp_path: Path, row: str, column: str, value: str | None, expected: str
) -> None:
    path = written(tmp_path, azure("18:00:00,1,1", row, "18:00:02,1,1"))

    with pytest.raises(TraceBroken) as caught:
        read_trace(path)

    broken = caught.value
    assert (broken.path, broken.line, broken.column, broken.value) == (path, 3, column, value)
    assert expected in broken.expected
    assert str(broken).startswith(f"{path}, line 3, column {column}: expected ")


@pytest.mark.parametrize("time", ["-1", "soon", "nan", "inf", "1e400", ""])
def test_a_burst_gpt_time_is_a_finite_number_of_seconds(tmp_path: Path, time: str) -> None:
    path = written(tmp_path, BURST_GPT + f"{time},ChatGPT,1,1,2,API log\n")

    with pytest.raises(TraceBroken, match="column Timestamp: expected a number of seconds"):
        read_trace(path)


def test_broken_rows_are_left_out_and_counted_only_where_that_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, azure("18:00:00,1,1", "18:00:01,oops,1", "17:00:00,1,1", "18:00:01,2,2"))

    trace = read_trace(path, skip_broken=True)

    assert trace.requests == (Recorded(0.0, Size(1, 1)), Recorded(1.0, Size(2, 2)))
    assert trace.num_skipped == 2


def test_no_more_rows_are_read_than_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, azure("18:00:00,1,1", "18:00:01,1,1", "oops"))

    assert len(read_trace(path, max_requests=2).requests) == 2


@pytest.mark.parametrize("text", ["", "time,prompt,answer\n1,2,3\n", "TIMESTAMP,ContextTokens\n"])
def test_a_header_of_no_known_form_is_an_error_that_names_the_known_ones(tmp_path: Path, text: str) -> None:
    with pytest.raises(TraceBroken, match=r"line 1: expected a header .* \(Azure LLM inference\); .* \(BurstGPT\)"):
        read_trace(written(tmp_path, text))


def test_a_trace_without_a_request_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TraceBroken, match="at least one request"):
        read_trace(written(tmp_path, AZURE))


def test_a_file_that_is_no_csv_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    path = written(tmp_path, azure("18:00:00,1,1") + '"' + "x" * 200_000)

    with pytest.raises(TraceBroken, match="comma-separated values"):
        read_trace(path)
