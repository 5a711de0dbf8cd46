"""Owns who asks: reads classes, objectives and tenants from a file, says all that is wrong with it. Sends nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from deployments.config_errors import ConfigError
from deployments.problems import Problem, Withheld
from deployments.settings import Positive, Settings, TopSettings
from deployments.user_config import Priority
from simulation.objectives import Objectives
from simulation.workload import ClassShare, Lengths, Lognormal, LognormalLengths, Mix, TenantShare

_Share = Annotated[float, Field(ge=0, le=1)]
_Tokens = Annotated[int, Field(ge=1, le=1_000_000)]


@dataclass(frozen=True, slots=True)
class Traffic:
    """objectives: by class. api_keys: by tenant, those that have one."""

    mix: Mix
    objectives: Mapping[str, Objectives]
    api_keys: Mapping[str, str]

    @property
    def most_urgent(self) -> ClassShare:
        return max(self.mix.classes, key=lambda each: each.priority)

    def with_lengths(self, lengths: Lengths) -> Traffic:
        """The same, but for how long every class's requests are."""
        classes = tuple(replace(each, lengths=lengths) for each in self.mix.classes)
        return replace(self, mix=replace(self.mix, classes=classes))


def read_traffic(path: Path) -> Traffic:
    """
    Raises:
        ConfigError: the file cannot be read, has unknown keys or wrong values, or shares that do not sum to 1.
    """
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(str(path), str(error), "a readable file") from None
    except yaml.YAMLError as error:
        raise _wrong(str(path), str(error), "valid YAML") from None
    settings = _TrafficSettings.model_validate(document, context={"path": str(path)})
    try:
        return settings.traffic()
    except ValueError as error:
        raise _wrong(str(path), str(error), "shares that sum to 1") from None


class _Varying(Settings):
    median: _Tokens
    sigma: Annotated[float, Field(ge=0, le=10)]
    max: _Tokens


class _ClassSettings(Settings):
    share: _Share
    priority: Priority
    prompt_tokens: _Tokens | _Varying
    output_tokens: _Tokens | _Varying
    ttft_s: Positive
    tpot_s: Positive

    def named(self, name: str) -> ClassShare:
        lengths = LognormalLengths(_length(self.prompt_tokens), _length(self.output_tokens))
        return ClassShare(name, self.share, self.priority, lengths)


class _TenantSettings(Settings):
    share: _Share
    api_key: Annotated[str, Field(pattern=r"^[!-~]+$")] | None = None


_EVERYONE = {"default": _TenantSettings(share=1.0)}


class _TrafficSettings(TopSettings):
    classes: Annotated[dict[str, _ClassSettings], Field(min_length=1)]
    tenants: Annotated[dict[str, _TenantSettings], Field(min_length=1, default_factory=lambda: dict(_EVERYONE))]

    @classmethod
    def default_path(cls) -> str:
        return "traffic.yaml"

    @classmethod
    def shown(cls, data: Any, location: tuple[int | str, ...], value: object) -> tuple[tuple[int | str, ...], object]:
        """A tenant's settings hold its key."""
        return location, Withheld("a value") if location[:1] == ("tenants",) else value

    def traffic(self) -> Traffic:
        classes = tuple(each.named(name) for name, each in self.classes.items())
        tenants = tuple(TenantShare(name, each.share) for name, each in self.tenants.items())
        return Traffic(
            Mix(classes, tenants),
            {name: Objectives(each.ttft_s, each.tpot_s) for name, each in self.classes.items()},
            {name: each.api_key for name, each in self.tenants.items() if each.api_key is not None},
        )


def _length(tokens: int | _Varying) -> Lognormal:
    if isinstance(tokens, int):
        return Lognormal(tokens, 0.0, tokens)
    return Lognormal(tokens.median, tokens.sigma, tokens.max)


def _wrong(path: str, value: str, expected: str) -> ConfigError:
    return ConfigError([Problem(path, "invalid", value, expected)])
