"""Owns the error for settings that are wrong: every problem, one a line. Knows nothing of which settings there are."""

from __future__ import annotations

from collections.abc import Sequence

from deployments.problems import Problem


class ConfigError(Exception):
    """The settings cannot be used. Caught by the command line, which prints it; elsewhere it ends the start.

    Not a ValueError on purpose: pydantic would wrap one, and its words would hide ours.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)
