"""Holds the pages to the code: what they list is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deployments.api.constraints import MAX_CALLS, MAX_GRAMMAR_BYTES, MAX_SCHEMA_BYTES
from deployments.api.request_log import facts_of
from deployments.api.request_record import RequestRecord
from deployments.api.tool_schemas import MAX_CALLS_OF_A_TURN, MAX_TOOLS
from deployments.serve_fields import refused_fields
from deployments.telemetry.metric_table import METRICS
from engine.grammar_trial import MAX_CPU_S
from fastserve.prerequisites import MIN_DISK_GB, MIN_MEMORY_GB
from tests.conformance.plugin.skip_list import entries_of
from tests.conformance.suite import SKIPS, SUITES

ROOT = Path(__file__).parents[1]


def page(name: str) -> str:
    return (ROOT / name).read_text()


def test_the_readme_names_the_disk_and_the_memory_that_the_set_up_checks() -> None:
    assert f"| Disk | {MIN_DISK_GB} GB free;" in page("README.md")
    assert f"| Memory | {MIN_MEMORY_GB} GB;" in page("README.md")


def test_every_metric_is_listed_under_the_name_that_a_scrape_shows() -> None:
    shown = [f"{spec.name}_total" if spec.kind == "counter" else spec.name for spec in METRICS]
    assert [name for name in shown if f"`{name}`" not in page("docs/operations.md")] == []


def test_every_field_of_a_requests_log_line_is_listed() -> None:
    fields = facts_of(RequestRecord("id", "/v1/models", clock=lambda: 0.0, arrived_s=0.0))
    assert [name for name in fields if f"`{name}`" not in page("docs/operations.md")] == []


def test_every_field_of_serves_that_is_refused_is_listed() -> None:
    text = page("docs/configuration.md").replace(
        "`placement_group_*`",
        " ".join(map("`placement_group_{}`".format, ("bundles", "strategy", "bundle_label_selector"))),
    )
    assert [name for name in refused_fields() if f"`{name}`" not in text] == []


def test_every_decision_has_a_number_of_its_own() -> None:
    numbers = [path.name[:4] for path in sorted((ROOT / "docs/decisions").glob("*.md"))]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


def test_the_bounds_of_forms_and_tools_are_what_the_page_says() -> None:
    text = page("docs/structured-outputs.md")
    for line in (
        f"| one schema | {MAX_SCHEMA_BYTES // 1024} KiB |",
        f"| the whole grammar | {MAX_GRAMMAR_BYTES // 1024} KiB |",
        f"| tools | {MAX_TOOLS} |",
        f"| calls in one turn of the conversation | {MAX_CALLS_OF_A_TURN} |",
        f"| processor time to compile a grammar and take its first steps | {MAX_CPU_S:g} s |",
    ):
        assert line in text
    assert f"otherwise up to {MAX_CALLS}" in text


def test_the_page_on_conformance_has_every_suites_version_and_every_reason_of_a_skip() -> None:
    text = page("docs/conformance.md")
    versions = [f"| {suite.name} | {suite.environment.pins()[suite.package]} |" for suite in SUITES]
    reasons = [f"| {entry.reason} |" for suite in SUITES for entry in entries_of(SKIPS, suite.name)]
    assert [line for line in versions + reasons if line not in text] == []


@pytest.mark.parametrize("name", ["docs/reliability.md", "docs/conformance.md"])
def test_every_test_that_a_page_names_is_there(name: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", page(name))
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
