"""What a scrape says of the bound on overtaking."""

from __future__ import annotations

import pytest

from benchmarks.bound_margin import read_smallest_slack_s, smallest_slack_s
from fastserve.errors import ServerFailed
from fastserve.ports import LOOPBACK, free_port


def test_the_smallest_margin_of_a_scrape_counts() -> None:
    name = "fastserve:overtaking_bound_margin_seconds"
    scraped = f'# TYPE {name} gauge\n{name}{{model_name="a"}} 2.5\n{name}{{model_name="b"}} 1e-06\nother 0.0\n'
    assert smallest_slack_s(scraped) == 1e-6
    assert smallest_slack_s("other 0.0\n") is None


def test_a_margin_that_is_no_number_is_an_error_that_names_it() -> None:
    with pytest.raises(ServerFailed, match=r"fastserve:overtaking_bound_margin_seconds.*'much'"):
        smallest_slack_s("fastserve:overtaking_bound_margin_seconds much\n")


def test_a_service_that_is_not_there_is_an_error_that_names_what_was_asked() -> None:
    with pytest.raises(ServerFailed, match="/metrics"):
        read_smallest_slack_s(f"http://{LOOPBACK}:{free_port()}")
