"""A side's latencies are those of all its answers at one number of clients."""

from __future__ import annotations

from benchmarks.answers import Answer
from benchmarks.load import LevelRun
from benchmarks.peers.latencies import Latencies, Spread, latencies


def run_of(num_clients: int, *answers: tuple[float, ...]) -> LevelRun:
    """Of answers that were asked for at 0, by the times of their texts in seconds."""
    return LevelRun(num_clients, 1.0, [Answer(0.0, times, 1, len(times)) for times in answers], [])


def test_turns_are_taken_together_by_number_of_clients() -> None:
    found = latencies([run_of(8, (0.5,)), run_of(1, (0.25, 0.5)), run_of(1, (0.75, 1.0))])

    assert [level.num_clients for level in found] == [1, 8]
    assert found[0] == Latencies(1, ttft_ms=Spread(p50=500.0, p99=745.0), itl_ms=Spread(p50=250.0, p99=250.0))


def test_an_answer_of_one_text_has_no_gaps() -> None:
    assert latencies([run_of(8, (0.5,))])[0].itl_ms == Spread(None, None)


def test_a_spread_is_shown_with_its_tail() -> None:
    assert str(Spread(12.34, 56.78)) == "12.3 / 56.8"
    assert str(Spread(None, None)) == "- / -"
