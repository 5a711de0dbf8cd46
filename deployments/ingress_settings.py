"""Owns the settings that an ingress goes by, and where their keys stand. Until it has been told any, it has none.

Serve opens an ingress's port before it tells it its settings, and leaves it open for a while where those turn out to be
wrong: whoever asked then would be let in by settings that know of no key.
"""

from __future__ import annotations

from typing import Any

from deployments.errors import ApiError
from deployments.key_source import KeySource
from deployments.user_config import IngressUserConfig


class IngressSettings:
    """keys: where the settings in force have their keys from."""

    def __init__(self) -> None:
        self.keys = KeySource(None)
        self._told: dict[str, Any] | None = None
        self._in_force: IngressUserConfig | None = None

    def in_force(self) -> IngressUserConfig:
        """What goes now.

        Raises:
            ApiError: 503, that is not known yet.
        """
        if self._in_force is None:
            kind = "service_unavailable_error"
            raise ApiError(503, "The ingress has no settings yet.", type=kind, code="not_ready", retry_after_s=1.0)
        return self._in_force

    def told(self, user_config: dict[str, Any] | None) -> IngressUserConfig | None:
        """The settings, with the keys that they name; None where it was told the same before.

        Serve says the same again, e.g. after a restart of its controller: keys that cannot be read by then are the
        business of whoever follows them, and end nothing.

        Raises:
            ConfigError: they are wrong; the old ones stay.
        """
        if self._in_force is not None and user_config == self._told:
            return None
        keys = KeySource(user_config)
        settings = keys.read()
        self.keys, self._told = keys, user_config
        return settings

    def take(self, settings: IngressUserConfig) -> None:
        self._in_force = settings
