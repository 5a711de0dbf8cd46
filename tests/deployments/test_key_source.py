"""API keys in a file and in the environment: where they count, what is refused, and how they change."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.api.auth import tenant_of
from deployments.config_errors import ConfigError
from deployments.key_source import KeySource, follow_keys, warn_of_readers
from deployments.telemetry.json_log import make_logger
from deployments.user_config import IngressUserConfig

WITHIN_S = 10


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.yaml"
    write(file, "filed: {name: of the file}")
    return file


def write(file: Path, text: str) -> None:
    """Puts a new file in its place at once, as one should."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    new.replace(file)


def named(settings: IngressUserConfig, key: str) -> str:
    return tenant_of(f"Bearer {key}", settings).name


def test_keys_of_the_settings_the_environment_and_the_file_all_count_and_the_last_wins(file: Path) -> None:
    write(file, "filed: {name: of the file}\nboth: {name: of the file}")
    config = {"tenants": {"own": {"name": "of the settings"}}, "tenant_keys_file": str(file), "tenant_keys_env": "KEYS"}
    environ = {"KEYS": json.dumps({"set": {"name": "of the environment"}, "both": {"name": "of the environment"}})}
    settings = KeySource(config, environ).read()
    found = [named(settings, key) for key in ("own", "set", "filed", "both")]
    assert found == ["of the settings", "of the environment", "of the file", "of the file"]


def test_the_last_place_wins_however_the_key_is_written_there(file: Path) -> None:
    written = f"sha256:{hashlib.sha256(b'key').hexdigest()}"
    write(file, f"'{written}': {{name: of the file}}")
    config = {"tenants": {written: {"name": "own"}}, "tenant_keys_file": str(file), "tenant_keys_env": "KEYS"}
    settings = KeySource(config, {"KEYS": "key: {name: of the environment}"}).read()
    assert named(settings, "key") == "of the file"


def test_a_file_may_hold_digests_only(file: Path) -> None:
    digest = hashlib.sha256(b"secret").hexdigest()
    write(file, f"'sha256:{digest}': {{name: a, max_requests_per_min: 5}}")
    settings = KeySource({"tenant_keys_file": str(file)}).read()
    assert tenant_of("Bearer secret", settings).account == digest[:16]


def test_nothing_named_means_the_settings_alone() -> None:
    assert KeySource({"tenants": {"key": {"name": "a"}}}).read().tenants.keys() == {"key"}
    assert KeySource(None).read() == IngressUserConfig()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"tenant_keys_file": "/no/such/file"},
            "user_config.tenant_keys_file: got '/no/such/file'; expected a file that",
        ),
        ({"tenant_keys_file": "/dev/null"}, "tenant_keys_file: got '/dev/null'; expected a file"),
        ({"tenant_keys_file": "/"}, "tenant_keys_file: got '/'; expected a file"),
        ({"tenant_keys_file": "keys.yaml"}, "tenant_keys_file: got 'keys.yaml'; expected an absolute path"),
        (
            {"tenant_keys_env": "UNSET"},
            "user_config.tenant_keys_env: got 'UNSET'; expected the name of a variable that",
        ),
    ],
)
def test_a_place_that_is_named_and_not_there_is_an_error_that_names_the_field(
    config: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        KeySource(config, environ={}).read()
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[SECRET]",
        "SECRET",
        "SECRET: {name: a}\nSECRET: {name: b}",
        "SECRET: {nmae: a}",
        "SECRET: null",
        "'sha256:SECRET': {name: a}",
        "SECRET: {name: a",
        "SECRET: *SECRET",
        "SECRET: !SECRET a",
        "%SECRET",
        "SECRET: \x00",
        "SECRET: {name: !!int ''}",
        "SECRET: {name: !!bool x}",
        "!!timestamp SECRET: {name: a}",
        '"SECRET\\ud800": {name: a}',
        "SECRET: {name: a, weight: 2}\nother: {name: a, weight: 3}",
        "[" * 100_000,
    ],
)
@pytest.mark.parametrize("place", ["file", "env"])
def test_keys_that_cannot_be_used_are_refused_without_showing_one(file: Path, text: str, place: str) -> None:
    write(file, text)
    config = {"tenant_keys_file": str(file)} if place == "file" else {"tenant_keys_env": "KEYS"}
    source = KeySource(config, {"KEYS": text})
    for refused_by in (source.read, source.check_what_is_here):
        with pytest.raises(ConfigError) as refused:
            refused_by()
        assert f"tenant_keys_{place} (" in str(refused.value)
        assert "SECRET" not in str(refused.value)


def test_bytes_that_are_no_text_are_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        KeySource({"tenant_keys_file": str(file)}).read()


def test_what_is_not_here_may_be_where_the_ingress_runs() -> None:
    KeySource({"tenant_keys_file": "/no/such/file", "tenant_keys_env": "UNSET"}, {}).check_what_is_here()


@pytest.mark.parametrize(("mode", "warns"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_file_that_others_may_read_is_warned_of(file: Path, mode: int, warns: bool) -> None:
    file.chmod(mode)
    stream = io.StringIO()
    source = KeySource({"tenant_keys_file": str(file)})
    source.read()
    warn_of_readers(source, make_logger(stream))
    assert ("others than its owner" in stream.getvalue()) == warns


def test_a_file_is_read_again_only_when_it_is_another(file: Path) -> None:
    source = KeySource({"tenant_keys_file": str(file)})
    source.read()
    assert source.read_if_changed() is None
    write(file, "new: {name: b}")
    settings = source.read_if_changed()
    assert settings is not None
    assert settings.tenants.keys() == {"new"}
    assert source.read_if_changed() is None


class Watched:
    """The watch of one file, a look at a time."""

    def __init__(self, source: KeySource) -> None:
        self.taken: list[IngressUserConfig] = []
        self._log = io.StringIO()
        self._may_look = asyncio.Semaphore(0)
        self._rests = asyncio.Event()
        self._task = asyncio.create_task(
            follow_keys(lambda: source, self.taken.append, make_logger(self._log), self._sleep)
        )

    async def look(self) -> list[dict[str, Any]]:
        """Lets it look once; returns what it has logged of that."""
        before = len(self._log.getvalue())
        await asyncio.wait_for(self._rests.wait(), WITHIN_S)
        self._rests.clear()
        self._may_look.release()
        await asyncio.wait_for(self._rests.wait(), WITHIN_S)
        return [json.loads(line) for line in self._log.getvalue()[before:].splitlines()]

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _sleep(self, _: float) -> None:
        self._rests.set()
        await self._may_look.acquire()


def _removed(file: Path) -> None:
    file.unlink()


def _broken(file: Path) -> None:
    write(file, "SECRET: {nmae: a}")


def _ill_tagged(file: Path) -> None:
    write(file, "SECRET: {name: !!int ''}")


@pytest.mark.parametrize("spoil", [_removed, _broken, _ill_tagged])
async def test_a_wrong_new_file_changes_nothing_and_is_said_once_and_a_good_one_counts(
    file: Path, spoil: Callable[[Path], None]
) -> None:
    source = KeySource({"tenant_keys_file": str(file)})
    source.read()
    watched = Watched(source)
    assert await watched.look() == []
    spoil(file)
    [line] = await watched.look()
    assert line["level"] == "error"
    assert "tenant_keys_file" in line["problem"]
    assert "SECRET" not in json.dumps(line)
    assert await watched.look() == []
    assert watched.taken == []
    write(file, "good: {name: b}")
    assert [line["event"] for line in await watched.look()] == ["API keys read anew"]
    assert [settings.tenants.keys() for settings in watched.taken] == [{"good"}]
    await watched.stop()


def test_a_file_that_was_changed_in_place_to_the_same_length_is_another(file: Path) -> None:
    source = KeySource({"tenant_keys_file": str(file)})
    source.read()
    status = file.stat()
    file.write_text(file.read_text().replace("filed", "feild"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    settings = source.read_if_changed()
    assert settings is not None
    assert settings.tenants.keys() == {"feild"}
