"""Owns the API keys that stand beside the settings, in a file or in the environment. Does not say who may what.

Both hold YAML (or JSON) in the form of `tenants`. What a message says of them never has a key in it.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
import yaml

from deployments.config_errors import ConfigError
from deployments.problems import Problem, Withheld
from deployments.unique_keys import UniqueKeys
from deployments.user_config import IngressUserConfig, parse_user_config

CHECK_EVERY_S = 2.0
MAX_BYTES = 16 * 2**20

# The last ones are what the parser lets through where a value has a tag that it does not suit, such as `!!int ''`.
_NO_YAML = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError)

Signature = tuple[int, ...]


class KeySource:
    """An Ingress's `user_config` with the keys that it names: those of the environment, then those of the file.

    A key that stands in several places counts as it stands in the last one. `settings` are without them.

    Raises:
        ConfigError: `user_config` itself is wrong.
    """

    def __init__(
        self,
        user_config: dict[str, Any] | None,
        environ: Mapping[str, str] = os.environ,
        path: str | None = None,
    ) -> None:
        self.settings = parse_user_config(user_config, path)
        self._raw = user_config or {}
        self._environ = environ
        self._path = path or IngressUserConfig.default_path()
        self._seen: Signature | None = None
        self.open_to: str | None = None  # the file's mode, where others than its owner may read it

    @property
    def file(self) -> str | None:
        return self.settings.tenant_keys_file

    def read(self) -> IngressUserConfig:
        """The settings with all keys. Reads the file, so not for an event loop.

        Raises:
            ConfigError: a place that is named has no keys, or wrong ones.
        """
        tenants: dict[str, Any] = dict(self._raw.get("tenants") or {})
        if self.settings.tenant_keys_env is not None:
            tenants = _over(tenants, self._from_environment(self.settings.tenant_keys_env))
        if self.file is not None:
            tenants = _over(tenants, self._from_file(self.file))
        return parse_user_config({**self._raw, "tenants": tenants}, self._path)

    def read_if_changed(self) -> IngressUserConfig | None:
        """As `read`, where the file is another than at the last look; None where it is not, or none is named.

        Raises:
            ConfigError: as `read`; said once for each change.
        """
        if self.file is None:
            return None
        try:
            now = _signature(Path(self.file).stat())
        except OSError:
            now = ()
        if now == self._seen:
            return None
        self._seen = now
        return self.read()

    def check_what_is_here(self) -> None:
        """Checks the keys as far as they can be found from here: the ingresses may run elsewhere.

        Raises:
            ConfigError: those that are here are wrong.
        """
        name = self.settings.tenant_keys_env
        if name is not None and name in self._environ:
            self._from_environment(name)
        if self.file is not None and Path(self.file).exists():
            self._from_file(self.file)

    def _from_environment(self, name: str) -> dict[str, Any]:
        place = f"{self._path}.tenant_keys_env"
        if name not in self._environ:
            raise _wrong(place, name, "the name of a variable that is set where the ingress runs")
        return _tenants_in(self._environ[name], f"{place} ({name})")

    def _from_file(self, file: str) -> dict[str, Any]:
        place = f"{self._path}.tenant_keys_file"
        try:
            text, status = _read(file)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
            raise _wrong(place, file, f"a file that can be read where the ingress runs ({reason})") from None
        self._seen = _signature(status)
        self.open_to = oct(status.st_mode & 0o777) if status.st_mode & 0o077 else None
        return _tenants_in(text, f"{place} ({file})")


async def follow_keys(
    source_in_force: Callable[[], KeySource],
    take: Callable[[IngressUserConfig], None],
    log: structlog.typing.FilteringBoundLogger,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Hands out new settings whenever the file of keys has changed; a wrong one changes nothing."""
    while True:
        await sleep(CHECK_EVERY_S)
        source = source_in_force()
        try:
            settings = await asyncio.to_thread(source.read_if_changed)
        except ConfigError as error:
            log.error("new API keys cannot be used, the keys of before stay", problem=str(error))
            continue
        if settings is not None and source is source_in_force():
            take(settings)
            log.info("API keys read anew", file=source.file, num_keys=len(settings.tenants))
            warn_of_readers(source, log)


def warn_of_readers(source: KeySource, log: structlog.typing.FilteringBoundLogger) -> None:
    """Where others than the owner may read the file of keys."""
    if source.open_to is not None:
        log.warning("others than its owner may read the file of API keys", file=source.file, mode=source.open_to)


def _over(before: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Both, the later ones last: of a key that stands there as text and as digest, the last counts."""
    return {key: tenant for key, tenant in before.items() if key not in later} | later


def _tenants_in(text: str, place: str) -> dict[str, Any]:
    """The mapping in `text`, once it has been checked as `tenants` would be."""
    try:
        found = yaml.load(text, UniqueKeys)
    except (*_NO_YAML, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" (line {mark.line + 1} is none, or has a key twice)"
        raise _wrong(place, Withheld("text"), f"YAML{where}") from None
    if not isinstance(found, dict) or not found:
        raise _wrong(place, Withheld("text"), "an object with at least one API key: with none, everybody might ask")
    parse_user_config({"tenants": found}, place)
    return found


def _read(file: str) -> tuple[str, os.stat_result]:
    """The text and the status of one and the same file, whatever takes its place meanwhile."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise OSError(0, f"it is no plain file of at most {MAX_BYTES} bytes")
        return opened.read(MAX_BYTES).decode(), status


def _signature(status: os.stat_result) -> Signature:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _wrong(path: str, value: object, expected: str) -> ConfigError:
    return ConfigError([Problem(path, "invalid", value, expected)])
