"""What of a command is published."""

from __future__ import annotations

import pytest

from fastserve.published_command import published_command


@pytest.mark.parametrize("option", ["--base-url", "--peer-url"])
def test_a_published_command_names_no_host(option: str) -> None:
    assert published_command("python -m benchmarks.http", [option, "http://secret:8000", "--rounds", "5"]) == (
        f"python -m benchmarks.http {option} URL --rounds 5"
    )
    assert published_command("python -m benchmarks.http", [f"{option}=http://secret:8000"]) == (
        f"python -m benchmarks.http {option}=URL"
    )


def test_all_else_is_published_as_it_was_given() -> None:
    assert published_command("python -m benchmarks.http", ["--rounds=5"]) == "python -m benchmarks.http --rounds=5"
