"""What an ingress goes by before it is told any settings, afterwards, and when it is told the same again."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from deployments.config_errors import ConfigError
from deployments.errors import ApiError
from deployments.ingress_replica import IngressReplica
from deployments.ingress_settings import IngressSettings
from deployments.user_config import IngressUserConfig
from tests.deployments.fake_service import serving

KEYS = "key: {name: a}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.yaml"
    file.write_text(KEYS)
    return file


async def test_before_an_ingress_is_told_its_settings_nobody_is_let_in() -> None:
    async with serving() as service:
        service.ask_settings = IngressSettings().in_force
        answers = [
            await service.chat(),
            await service.complete(),
            await service.post("/generate", {"prompt": "Hi"}),
            *[
                await service.client.get(path)
                for path in ("/v1/models", "/v1/queue", "/metrics", "/readyz", "/nothing")
            ],
        ]
        alive = await service.client.get("/healthz")
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["error"]["code"] for answer in answers} == {"not_ready"}
    assert all(answer.headers["retry-after"] for answer in answers)
    assert alive.status_code == 200
    assert service.handle.calls == []


def test_settings_that_are_wrong_from_the_start_let_nobody_in(file: Path) -> None:
    settings = IngressSettings()
    file.unlink()
    with pytest.raises(ConfigError):
        settings.told({"tenant_keys_file": str(file)})
    with pytest.raises(ApiError):
        settings.in_force()


def test_no_settings_at_all_mean_the_defaults_once_that_is_said() -> None:
    settings = IngressSettings()
    assert settings.told(None) == IngressUserConfig()


def test_told_the_same_again_an_ingress_keeps_its_keys_though_they_cannot_be_read_any_more(file: Path) -> None:
    config, settings = {"tenant_keys_file": str(file)}, IngressSettings()
    first = settings.told(config)
    assert first is not None
    settings.take(first)
    file.unlink()
    assert settings.told(dict(config)) is None
    assert settings.in_force().tenants.keys() == {"key"}


def test_wrong_settings_leave_those_in_force_and_are_wrong_again_when_told_again(file: Path) -> None:
    settings = IngressSettings()
    settings.take(settings.told({"tenant_keys_file": str(file)}) or IngressUserConfig())
    for _ in range(2):
        with pytest.raises(ConfigError):
            settings.told({"betta": 1})
    assert settings.in_force().tenants.keys() == {"key"}
    assert settings.keys.file == str(file)


def test_serve_tells_an_ingress_its_settings_though_there_be_none() -> None:
    """It does so to whoever asks for the rank: see `call_reconfigure` of its replicas."""
    assert "rank" in inspect.signature(IngressReplica.reconfigure).parameters
