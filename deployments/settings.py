"""Owns what all settings have in common: strictness, and errors in our own words. Knows no setting."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from deployments.config_errors import ConfigError
from deployments.problems import problems_of

Positive = Annotated[float, Field(gt=0)]


class Settings(BaseModel):
    """Unknown keys are errors, numbers are finite, and text is never taken for a number."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class TopSettings(Settings):
    """Settings that raise ConfigError in our own words, whoever validates them."""

    @model_validator(mode="wrap")
    @classmethod
    def _say_what_is_wrong(cls, data: Any, validate: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        try:
            return validate(data)
        except ValidationError as error:
            path = (info.context or {}).get("path", cls.default_path())
            raise ConfigError(problems_of(error, cls, path, partial(cls.shown, data))) from None

    @classmethod
    def shown(cls, data: Any, location: tuple[int | str, ...], value: object) -> tuple[tuple[int | str, ...], object]:
        """What a message may show of a wrong value in `data` and of its location."""
        return location, value

    @classmethod
    def default_path(cls) -> str:
        """Where these settings stand in the file when nobody says so."""
        raise NotImplementedError
