"""How fast the replicas serve: measured while somebody waits, over all of them, and following what changes."""

from __future__ import annotations

import pytest

from scheduling.admission import AdmissionBounds
from scheduling.arrivals import ArrivalMeter
from scheduling.errors import WaitTooLong
from scheduling.faded import FadedRate
from scheduling.service_rate import ServiceRate
from tests.factories import make_dispatcher, make_replica, make_ticket


def serve(rate: ServiceRate, per_s: float, seconds: int, *, replica_id: str = "r", since_s: int = 0) -> None:
    for second in range(since_s, since_s + seconds):
        rate.observe(replica_id, int(second * per_s), float(second), is_busy=True)


def test_nothing_is_known_before_two_readings_of_a_busy_replica() -> None:
    rate = ServiceRate()
    rate.observe("r", 0, 0, is_busy=False)
    rate.observe("r", 1_000, 1, is_busy=True)
    assert rate.tokens_per_s is None
    rate.observe("r", 1_500, 2, is_busy=True)
    assert rate.tokens_per_s == pytest.approx(500)


def test_idle_time_says_nothing_about_speed() -> None:
    rate = ServiceRate()
    serve(rate, 500, 60)
    for second in range(60, 600):
        rate.observe("r", 30_000, float(second), is_busy=False)
    assert rate.tokens_per_s == pytest.approx(500, rel=0.05)


def test_the_idle_time_of_one_replica_is_not_counted_because_another_was_read_first() -> None:
    rate = ServiceRate()
    for replica_id in ("r", "s", "t"):
        rate.observe(replica_id, 0, 0, is_busy=False)
    for replica_id in ("r", "s", "t"):  # they have been idle for a second, and now somebody waits
        rate.observe(replica_id, 0, 1, is_busy=True)
    assert rate.tokens_per_s is None
    for replica_id in ("r", "s", "t"):
        rate.observe(replica_id, 500, 2, is_busy=True)
    assert rate.tokens_per_s == pytest.approx(1_500)


def test_replicas_add_up_and_one_that_is_new_counts_like_the_others() -> None:
    rate = ServiceRate()
    serve(rate, 500, 60)
    serve(rate, 300, 60, replica_id="s")
    assert rate.tokens_per_s == pytest.approx(800, rel=0.05)
    rate.observe("new", 0, 60, is_busy=True)
    assert rate.tokens_per_s == pytest.approx(1_200, rel=0.05)
    rate.forget("new")
    assert rate.tokens_per_s == pytest.approx(800, rel=0.05)


def test_the_rate_follows_a_change() -> None:
    rate = ServiceRate()
    serve(rate, 500, 60)
    for second in range(60, 200):
        rate.observe("r", 30_000 + 100 * (second - 60), float(second), is_busy=True)
    assert rate.tokens_per_s == pytest.approx(100, rel=0.05)


def test_a_replica_that_counts_from_nothing_again_is_read_anew() -> None:
    rate = ServiceRate()
    serve(rate, 500, 60)
    rate.observe("r", 0, 61, is_busy=True)
    rate.observe("r", 500, 62, is_busy=True)
    assert rate.tokens_per_s == pytest.approx(500, rel=0.05)


def test_answers_that_end_early_make_the_expected_work_go_faster() -> None:
    rate = ServiceRate()
    serve(rate, 500, 60)
    for _ in range(1_000):
        rate.observe_release(num_expected=300, num_served=60)
    assert rate.expected_tokens_per_s == pytest.approx(2_500, rel=0.05)


def test_a_large_answer_says_more_of_what_is_used_than_a_small_one() -> None:
    """Half of the requests use all of little, half a tenth of much: as a mean of shares that would be 55 %."""
    rate = ServiceRate()
    serve(rate, 500, 60)
    for _ in range(1_000):
        rate.observe_release(num_expected=10, num_served=10)
        rate.observe_release(num_expected=1_000, num_served=100)
    assert rate.expected_tokens_per_s == pytest.approx(500 * 1_010 / 110, rel=0.05)


def test_a_rate_at_which_nobody_may_wait_is_measured_again_while_all_slots_are_taken() -> None:
    dispatcher = make_dispatcher(make_replica("r", max_num_seqs=1), bounds=AdmissionBounds(max_wait_s=60))
    for lease_id in ("runs", "waits"):
        dispatcher.enqueue(make_ticket(lease_id), "ingress", 0)
    [(_, grant)] = dispatcher.dispatch(0)
    dispatcher.claim(grant.lease_id, "r")
    for second in range(200):  # the engine stands still, but for a token
        dispatcher.observe_service("r", min(second, 1), float(second))
    dispatcher.cancel("waits")
    with pytest.raises(WaitTooLong):
        dispatcher.enqueue(make_ticket("refused"), "ingress", 200)
    for second in range(200, 260):
        dispatcher.observe_service("r", 400 * (second - 200), float(second))
    dispatcher.enqueue(make_ticket("let in"), "ingress", 260)


@pytest.mark.parametrize("per_s", [0.5, 20.0])
def test_a_faded_rate_is_right_from_the_first_seconds(per_s: float) -> None:
    rate = FadedRate(memory_s=30)
    for _ in range(4):
        rate.observe(1 / per_s, 1)
    assert rate.per_s == pytest.approx(per_s, rel=0.1)


def test_arrivals_count_for_those_below_them_and_are_forgotten() -> None:
    arrivals = ArrivalMeter()
    for second in range(300):
        arrivals.observe(5, 40, float(second))
        arrivals.observe(0, 10, float(second))
    assert arrivals.above(0, 299) == [(5, pytest.approx(40, rel=0.05))]
    assert sorted(arrivals.above(-1, 299)) == [(1, pytest.approx(10, rel=0.05)), (6, pytest.approx(40, rel=0.05))]
    assert arrivals.above(5, 299) == []
    assert arrivals.above(-1, 1_000) == [(6, pytest.approx(0, abs=0.01)), (1, pytest.approx(0, abs=0.01))]


def test_no_number_of_priorities_grows_the_account() -> None:
    arrivals = ArrivalMeter()
    for number in range(10_000):
        arrivals.observe(number / 100, 1, 0.0)
    assert len(arrivals._tokens) <= 257
