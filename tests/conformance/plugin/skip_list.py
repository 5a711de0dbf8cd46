"""A pytest plugin: skips what a list names, each with its reason, and fails when the list and the skips differ.

It runs in the environments of other people's packages, so it needs pytest alone. Knows no suite.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Entry:
    """tests: patterns with `*` and `?` of the ends of pytest's node ids, from a `/` or `::` on, parameters left out."""

    tests: tuple[str, ...]
    reason: str


def entries_of(path: Path, suite: str) -> list[Entry]:
    """What the list says of one suite; nothing where it does not name it."""
    tables = tomllib.loads(path.read_text()).get(suite, [])
    return [Entry(tuple(table["tests"]), table["reason"]) for table in tables]


def reason_for(node_id: str, entries: Iterable[Entry]) -> str | None:
    """Why a test is skipped, by the first entry that names it."""
    return next((entry.reason for entry in entries if any(_names(node_id, one) for one in entry.tests)), None)


def patterns_without_a_test(node_ids: Sequence[str], entries: Iterable[Entry]) -> list[str]:
    """What the list names and the suite does not have."""
    patterns = [pattern for entry in entries for pattern in entry.tests]
    return [pattern for pattern in patterns if not any(_names(node_id, pattern) for node_id in node_ids)]


def _names(node_id: str, pattern: str) -> bool:
    return any(fnmatchcase(node_id.partition("[")[0], f"*{before}{pattern}") for before in ("/", "::"))


class SkipList:
    """Holds one run to its list."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = entries
        self._unlisted: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            reason = reason_for(item.nodeid, self._entries)
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))
        if stale := patterns_without_a_test([item.nodeid for item in items], self._entries):
            raise pytest.UsageError(f"the list of skips names tests that are not there: {', '.join(stale)}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and reason_for(report.nodeid, self._entries) is None:
            self._unlisted.append(f"{report.nodeid}: {report.longreprtext}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._unlisted:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self._unlisted:
            terminalreporter.write_line(f"skipped without standing in the list: {line}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--skip-list", type=Path, help="a TOML file of tests and reasons")
    parser.addoption("--skip-suite", help="whose entries apply")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--skip-list")
    if path is not None:
        config.pluginmanager.register(SkipList(entries_of(path, config.getoption("--skip-suite"))))
