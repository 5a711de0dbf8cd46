"""Which percentiles are drawn, and that all of them are."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

from typer.testing import CliRunner

from benchmarks.mixed_plot import Point, app, read_points
from tests.benchmarks.factories import make_answer, make_mixed_report, make_outcome, make_round, make_side_report

ROUND = make_round(
    make_outcome(make_answer(0.5), service_class="urgent"),
    idle=(make_outcome(make_answer(0.1), service_class="urgent"),),
)


def test_each_answered_class_has_its_percentiles_and_its_objective() -> None:
    points = list(read_points(json.loads(make_mixed_report(make_side_report(ROUND)).to_json())))

    assert [(point.row, point.percentile) for point in points] == [
        (row, percentile) for row in ("urgent (alone)", "urgent") for percentile in ("p50", "p95", "p99")
    ]
    assert points[3] == Point("service", "urgent", "p50", 0.5, 1.0)


def test_the_figure_shows_both_sides_and_stands_beside_the_results(tmp_path: Path) -> None:
    results = tmp_path / "2026-01-31-mixed-priority.json"
    results.write_text(make_mixed_report(make_side_report(ROUND), make_side_report(ROUND, name="peer")).to_json())

    done = CliRunner().invoke(app, [str(results)])

    assert done.exit_code == 0, done.output
    figure = results.with_suffix(".svg").read_text()
    assert ET.fromstring(figure).tag.endswith("svg")
    assert all(name in figure for name in ("service", "peer", "urgent (alone)", results.name))


def test_results_of_another_benchmark_are_refused(tmp_path: Path) -> None:
    results = tmp_path / "other.json"
    results.write_text('{"benchmark": "http"}')

    done = CliRunner().invoke(app, [str(results)])

    assert done.exit_code == 2
    assert "expected 'mixed-priority', got 'http'" in " ".join(done.output.replace("│", " ").split())
