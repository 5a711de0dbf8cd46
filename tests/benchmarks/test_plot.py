"""Which results are drawn, and that all of them are."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

from typer.testing import CliRunner

from benchmarks.plot import Point, app, newest, read_points

ENGINE = {"levels": [{"num_sequences": 8, "tokens_per_s": 500.0, "tokens_per_s_by_round": [490.0, 500.0, 510.0]}]}
HTTP = {"levels": [{"num_clients": 8, "output_tokens_per_s": 400.0, "output_tokens_per_s_by_round": [380.0, 400.0]}]}


def results(folder: Path, **documents: object) -> Path:
    for stem, document in documents.items():
        (folder / f"2026-01-31-{stem.replace('_', '-')}.json").write_text(json.dumps(document))
    return folder


def test_a_point_has_the_median_round_and_both_ends(tmp_path: Path) -> None:
    folder = results(tmp_path, engine=ENGINE, http=HTTP)

    assert read_points("engine", folder / "2026-01-31-engine.json") == [Point("engine alone", 8, 500.0, 490.0, 510.0)]
    assert read_points("http", folder / "2026-01-31-http.json") == [Point("service over HTTP", 8, 400.0, 380.0, 400.0)]


def test_the_newest_results_are_those_of_the_last_day_and_the_highest_number(tmp_path: Path) -> None:
    for stem in ("2026-01-30-http-11", "2026-01-31-http-2", "2026-01-31-http-10", "2026-02-01-peers-http-vllm"):
        (tmp_path / f"{stem}.json").write_text("{}")

    assert newest(tmp_path, "http") == tmp_path / "2026-01-31-http-10.json"
    assert newest(tmp_path, "engine") is None


def test_the_figure_shows_both_benchmarks_and_names_its_sources(tmp_path: Path) -> None:
    folder = results(tmp_path, engine=ENGINE, http=HTTP)

    done = CliRunner().invoke(app, ["--results", str(folder)])

    assert done.exit_code == 0, done.output
    figure = (folder / "2026-01-31-throughput.svg").read_text()
    assert ET.fromstring(figure).tag.endswith("svg")
    assert "2026-01-31-engine.json, 2026-01-31-http.json" in figure
    assert all(name in figure for name in ("engine alone", "service over HTTP"))


def test_nothing_to_draw_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--results", str(tmp_path)])

    assert done.exit_code == 2
    assert "found none" in done.output
    assert list(tmp_path.iterdir()) == []
