from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from fastserve.readiness import dashboard_headers, why_failed


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"applications": {"a": {"status": "DEPLOY_FAILED", "message": "why"}}}', "why"),
        ('{"applications": {"a": {"status": "DEPLOYING", "message": ""}}}', None),
        ('{"applications": {"a": {}}}', None),
        ('{"applications": null}', None),
        ("{}", None),
        ("[]", None),
        ("not JSON", None),
    ],
)
def test_a_dashboard_that_says_nothing_of_applications_gives_no_reason_and_breaks_no_watch(
    body: str, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(url: str, **_: object) -> httpx.Response:
        return httpx.Response(200, text=body, request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", get)
    assert why_failed("http://dashboard", {}) == reason


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
