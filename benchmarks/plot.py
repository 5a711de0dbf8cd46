"""`python -m benchmarks.plot`: one figure of the engine alone and of the service over HTTP. Measures nothing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import altair as alt
import typer
import vl_convert
from rich.console import Console

from benchmarks.report import RESULTS, free_stem

_WIDTH, _HEIGHT = 520, 320
_COUNTS = {"engine": "num_sequences", "http": "num_clients"}
_RATES = {"engine": "tokens_per_s", "http": "output_tokens_per_s"}
_NAMES = {"engine": "engine alone", "http": "service over HTTP"}

Kind = Literal["engine", "http"]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Point:
    """One level of one benchmark: the median round, with the slowest and the fastest."""

    series: str
    num_at_once: int
    tokens_per_s: float
    slowest: float
    fastest: float


@app.command()
def main(
    engine: Annotated[Path | None, typer.Option(help="The engine's results, .json; the newest unless given.")] = None,
    http: Annotated[Path | None, typer.Option(help="The service's results, .json; the newest unless given.")] = None,
    results: Annotated[Path, typer.Option(help="Where the results are, and the figure goes.")] = RESULTS,
) -> None:
    """Draw the two benchmarks' output tokens a second, by how many are asked for at once."""
    given: dict[Kind, Path | None] = {
        "engine": engine or newest(results, "engine"),
        "http": http or newest(results, "http"),
    }
    drawn = {kind: path for kind, path in given.items() if path is not None}
    if not drawn:
        raise typer.BadParameter(f"{results}: expected results of a benchmark, found none")
    points = [point for kind, path in drawn.items() for point in read_points(kind, path)]
    name = min(path.stem for path in drawn.values())[: len("2026-01-31")]
    figure = results / f"{free_stem(results, f'{name}-throughput')}.svg"
    figure.write_text(draw(points, ", ".join(path.name for path in drawn.values())))
    Console(stderr=True).print(f"drawn: {figure}", markup=False, soft_wrap=True)


def newest(folder: Path, kind: Kind) -> Path | None:
    """By the date and the number in the name: a checkout gives all files the same age."""
    found = [
        (match[1], int(match[2] or 1), path)
        for path in folder.glob(f"*-{kind}*.json")
        if (match := re.fullmatch(rf"(\d{{4}}-\d\d-\d\d)-{kind}(?:-(\d+))?", path.stem))
    ]
    return max(found)[2] if found else None


def read_points(kind: Kind, path: Path) -> list[Point]:
    """A point for each level of a results file."""
    levels = json.loads(path.read_text())["levels"]
    return [
        _point(kind, level[_COUNTS[kind]], level[_RATES[kind]], level[f"{_RATES[kind]}_by_round"]) for level in levels
    ]


def draw(points: list[Point], sources: str) -> str:
    """The figure as SVG: a line for each benchmark, and a bar from the slowest to the fastest round."""
    data = alt.Data(values=[{name: getattr(point, name) for name in Point.__slots__} for point in points])
    at_once = alt.X("num_at_once:Q", title="sequences or clients at once", scale=alt.Scale(type="log", base=2))
    series = alt.Color("series:N", title=None, legend=alt.Legend(orient="top-left"))
    base = alt.Chart(data).encode(at_once, color=series)
    line = base.mark_line(point=True).encode(alt.Y("tokens_per_s:Q", title="output tokens/s"))
    spread = base.mark_rule().encode(alt.Y("slowest:Q"), alt.Y2("fastest:Q"))
    title = alt.Title("Output tokens a second", subtitle=f"median round, slowest to fastest; {sources}")
    figure = alt.layer(spread, line).properties(title=title, width=_WIDTH, height=_HEIGHT)
    return vl_convert.vegalite_to_svg(figure.to_json())


def _point(kind: Kind, num_at_once: int, rate: float, by_round: list[float]) -> Point:
    return Point(_NAMES[kind], num_at_once, rate, min(by_round), max(by_round))


if __name__ == "__main__":
    app()
