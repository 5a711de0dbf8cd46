from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.results import Result, closing_lines, result_of

REPORT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"/>
<testcase name="c"><failure message="no">trace</failure></testcase>
<testcase name="d"><error message="no">trace</error></testcase>
<testcase name="e"><skipped message="no images">where</skipped></testcase>
</testsuite></testsuites>"""
PASSED = "<testsuites><testsuite><testcase name='a'/></testsuite></testsuites>"
SKIPPED = "<testsuites><testsuite><testcase name='a'><skipped message='why'/></testcase></testsuite></testsuites>"


def result(folder: Path, report: str, exit_status: int) -> Result:
    path = folder / "report.xml"
    path.write_text(report)
    return result_of("suite", "1.0", exit_status, path)


def test_a_report_is_counted(tmp_path: Path) -> None:
    found = result(tmp_path, REPORT, 1)
    assert (found.num_passed, found.num_failed, found.num_skipped, found.is_clean) == (2, 2, 1, False)
    assert found.reasons == {"no images": 1}


@pytest.mark.parametrize(
    ("report", "exit_status", "is_clean"), [(PASSED, 0, True), (PASSED, 1, False), (SKIPPED, 0, False)]
)
def test_only_a_suite_that_pytest_passed_and_of_which_something_ran_is_clean(
    tmp_path: Path, report: str, exit_status: int, is_clean: bool
) -> None:
    assert result(tmp_path, report, exit_status).is_clean is is_clean


def test_a_suite_that_left_no_report_is_not_clean(tmp_path: Path) -> None:
    assert not result_of("suite", "1.0", 0, tmp_path / "none.xml").is_clean


def test_the_closing_lines_name_what_is_not_clean_and_each_reason(tmp_path: Path) -> None:
    lines = closing_lines([result(tmp_path, REPORT, 1), result(tmp_path, PASSED, 0)])
    assert "suite skips 1: no images" in lines
    assert lines[-1] == "not clean: suite"
    assert closing_lines([result(tmp_path, PASSED, 0)])[-1] == "all suites pass"
