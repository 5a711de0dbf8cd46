"""`python -m benchmarks.mixed_plot RESULTS.json`: TTFT by class, idle and loaded, beside the objectives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import altair as alt
import typer
import vl_convert
from rich.console import Console

_WIDTH, _STEP = 420, 22
_PERCENTILES = ("p50", "p95", "p99")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Point:
    """One percentile of one class at one service. row: the class, `(alone)` added where it was idle."""

    side: str
    row: str
    percentile: str
    ttft_s: float
    objective_s: float


@app.command()
def main(
    results: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A run's results, .json.")],
) -> None:
    """Draw the times to the first token; the figure goes beside the results."""
    document = json.loads(results.read_text())
    if document.get("benchmark") != "mixed-priority":
        raise typer.BadParameter(f"{results}: benchmark: expected 'mixed-priority', got {document.get('benchmark')!r}")
    figure = results.with_suffix(".svg")
    figure.write_text(draw(list(read_points(document)), results.name))
    Console(stderr=True).print(f"drawn: {figure}", markup=False, soft_wrap=True)


def read_points(document: dict[str, Any]) -> Iterator[Point]:
    """Percentiles that no answer gives are left out."""
    objectives = {each["name"]: each["objectives"]["ttft_s"] for each in document["classes"]}
    for side in document["sides"]:
        idle = side["idle"]
        yield from _points(side["name"], f"{idle['name']} (alone)", idle["ttft"], objectives[idle["name"]])
        for group in side["classes"]:
            yield from _points(side["name"], group["name"], group["ttft"], objectives[group["name"]])


def draw(points: list[Point], source: str) -> str:
    """The figure as SVG: a row for each class of each service, a dot for each percentile, a tick at the objective."""
    data = alt.Data(values=[asdict(point) for point in points])
    rows = alt.Y("row:N", title=None, sort=list(dict.fromkeys(point.row for point in points)))
    times = alt.X("ttft_s:Q", title="time to first token, seconds", scale=alt.Scale(type="log"))
    dots = alt.Color("percentile:N", title=None, sort=list(_PERCENTILES))
    base = alt.Chart(data).encode(rows)
    sides = alt.Row("side:N", title=None, sort=list(dict.fromkeys(point.side for point in points)))
    marks = alt.layer(
        base.mark_tick(color="black", thickness=2).encode(alt.X("objective_s:Q", title="time to first token, seconds")),
        base.mark_circle(size=70, opacity=1).encode(times, color=dots),
    )
    title = alt.Title("Time to first token by class", subtitle=f"the tick is the class's objective; {source}")
    figure = marks.properties(width=_WIDTH, height=alt.Step(_STEP)).facet(row=sides)
    return vl_convert.vegalite_to_svg(figure.properties(title=title).to_json())


def _points(side: str, row: str, ttft: dict[str, float | None], objective_s: float) -> Iterator[Point]:
    for percentile in _PERCENTILES:
        time_ms = ttft[f"{percentile}_ms"]
        if time_ms is not None:
            yield Point(side, row, percentile, time_ms / 1000, objective_s)


if __name__ == "__main__":
    app()
