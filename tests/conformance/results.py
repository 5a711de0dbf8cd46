"""Reads what pytest has written of a suite, and says it in lines. Runs nothing."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Result:
    """One suite's counts. is_clean: pytest itself said so, which it also denies where nothing ran.

    reasons: how many tests were skipped for each.
    """

    suite: str
    version: str
    is_clean: bool
    num_passed: int = 0
    num_failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def num_skipped(self) -> int:
        return self.reasons.total()


def result_of(suite: str, version: str, exit_status: int, report: Path) -> Result:
    """The result by pytest's exit status and its JUnit report; with no report, a failure of no tests."""
    if not report.is_file():
        return Result(suite, version, is_clean=False)
    cases = list(ET.parse(report).getroot().iter("testcase"))
    skipped = [skip for case in cases if (skip := case.find("skipped")) is not None]
    num_failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    num_passed = len(cases) - len(skipped) - num_failed
    reasons = Counter(skip.get("message", "") for skip in skipped)
    return Result(suite, version, exit_status == 0 and num_passed > 0, num_passed, num_failed, reasons)


def closing_lines(results: Sequence[Result]) -> list[str]:
    """A table, the reasons for what was skipped, and whether all is well."""
    lines = ["", f"{'suite':<12} {'version':<10} {'passed':>6} {'failed':>6} {'skipped':>7}"]
    for one in results:
        counts = f"{one.num_passed:>6} {one.num_failed:>6} {one.num_skipped:>7}"
        lines.append(f"{one.suite:<12} {one.version:<10} {counts}{'' if one.is_clean else '  not clean'}")
    lines.append("")
    for one in results:
        lines += [f"{one.suite} skips {number}: {reason}" for reason, number in one.reasons.most_common()]
    unclean = [one.suite for one in results if not one.is_clean]
    lines += ["", f"not clean: {', '.join(unclean)}" if unclean else "all suites pass"]
    return lines
