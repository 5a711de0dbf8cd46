from __future__ import annotations

from tests.conformance.environments import Environment
from tests.conformance.plugin.skip_list import Entry, entries_of, patterns_without_a_test, reason_for
from tests.conformance.suite import SKIPS, SUITES

ONE_FILE = "tests/api/chat/test_completions.py::TestCompletions::test_method_retrieve[loose]"
ANOTHER = "tests/api/test_models.py::TestModels::test_method_retrieve[loose]"


def test_a_test_is_skipped_by_the_first_entry_that_names_it_whatever_its_parameters() -> None:
    entries = [Entry(("test_method_*",), "first"), Entry(("test_method_retrieve",), "second")]
    assert reason_for(ONE_FILE, entries) == "first"


def test_an_entry_may_mean_one_file_or_class_alone() -> None:
    of_a_file = [Entry(("chat/test_completions.py::*::test_*_retrieve",), "stored")]
    assert [reason_for(one, of_a_file) for one in (ONE_FILE, ANOTHER)] == ["stored", None]
    of_a_class = [Entry(("TestModels::test_method_retrieve",), "models")]
    assert [reason_for(one, of_a_class) for one in (ONE_FILE, ANOTHER)] == [None, "models"]


def test_a_name_is_not_found_in_the_middle_of_another() -> None:
    assert reason_for(ONE_FILE, [Entry(("method_retrieve",), "a part of a name")]) is None


def test_an_entry_that_names_nothing_is_told() -> None:
    entries = [Entry(("test_method_retrieve", "test_gone"), "reason")]
    assert patterns_without_a_test([ONE_FILE], entries) == ["test_gone"]


def test_every_entry_of_the_list_has_a_reason_and_every_suite_a_pinned_package() -> None:
    for suite in SUITES:
        assert all(entry.reason and entry.tests for entry in entries_of(SKIPS, suite.name))
        assert suite.environment.pins()[suite.package]


def test_every_pinned_package_has_its_reason_in_a_line() -> None:
    for environment in Environment:
        lines = environment.requirements.read_text().splitlines()
        assert [line for line in lines if not line.startswith("#") and "  # " not in line] == []
