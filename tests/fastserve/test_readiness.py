from __future__ import annotations

from pathlib import Path

import pytest

from fastserve.readiness import dashboard_headers


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("from-file\n")
    return path


@pytest.mark.parametrize("mode", [{}, {"RAY_AUTH_MODE": "disabled"}])
def test_a_dashboard_that_asks_for_no_token_is_sent_none(mode: dict[str, str], token_file: Path) -> None:
    assert dashboard_headers({**mode, "RAY_AUTH_TOKEN": "a", "RAY_AUTH_TOKEN_PATH": str(token_file)}) == {}


def test_the_token_of_the_environment_goes_before_that_of_the_file(token_file: Path) -> None:
    environment = {"RAY_AUTH_MODE": "TOKEN", "RAY_AUTH_TOKEN_PATH": str(token_file)}

    assert dashboard_headers(environment) == {"authorization": "Bearer from-file"}
    assert dashboard_headers({**environment, "RAY_AUTH_TOKEN": "own"}) == {"authorization": "Bearer own"}


def test_the_token_lies_in_the_home_folder_unless_said_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert dashboard_headers({"RAY_AUTH_MODE": "token"}) == {}

    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("home")

    assert dashboard_headers({"RAY_AUTH_MODE": "token"}) == {"authorization": "Bearer home"}
