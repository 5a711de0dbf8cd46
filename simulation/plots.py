"""Draws what runs of the twin gave, as SVG: first tokens by class, queue and batch over time. Works nothing out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import altair as alt
import vl_convert

from simulation.results import Figures

_WIDTH, _HEIGHT = 280, 180
_PANELS = ("waiting", "running", "parked", "replicas")
_LEAST_S = 1e-3  # a logarithmic axis has no 0


def ttft_by_class(runs: Sequence[Figures]) -> str:
    """A panel for each class and a line for each run: TTFT by the share of answers that had one as short."""
    rows = list(_curve_rows(runs))
    names = list(dict.fromkeys(str(row["class"]) for row in rows))
    percent = alt.X("percent:Q", title="percent of answers")
    ttft = alt.Y("ttft_s:Q", title="TTFT, seconds", scale=alt.Scale(type="log"))
    lines = _chart(rows).mark_line(interpolate="monotone").encode(percent, ttft, color=_by_run(runs))
    return _svg(lines.facet(alt.Facet("class:N", title=None, sort=names), columns=3))


def course(runs: Sequence[Figures]) -> str:
    """Who waits, runs and is parked over time, on how many replicas; a panel for each, and a line for each run."""
    number = alt.Y("number:Q", title=None)
    lines = _chart(list(_moment_rows(runs))).mark_line(interpolate="step-after")
    encoded = lines.encode(alt.X("at_s:Q", title="seconds"), number, color=_by_run(runs))
    sorted_panels = alt.Facet("what:N", title=None, sort=list(_PANELS))
    return _svg(encoded.facet(sorted_panels, columns=2).resolve_scale(y="independent"))


def _chart(rows: list[dict[str, object]]) -> alt.Chart:
    return alt.Chart(alt.Data(values=rows)).properties(width=_WIDTH, height=_HEIGHT)


def _by_run(runs: Sequence[Figures]) -> alt.Color:
    return alt.Color("run:N", title=None, sort=[run.name for run in runs], legend=alt.Legend(orient="top"))


def _curve_rows(runs: Sequence[Figures]) -> Iterator[dict[str, object]]:
    for run in runs:
        for group in run.classes:
            for percent, ttft_s in enumerate(group.ttft_curve):
                yield {"run": run.name, "class": group.name, "percent": percent, "ttft_s": max(ttft_s, _LEAST_S)}


def _moment_rows(runs: Sequence[Figures]) -> Iterator[dict[str, object]]:
    for run in runs:
        for moment in run.moments:
            numbers = (moment.num_waiting, moment.num_running, moment.num_parked, moment.num_replicas)
            for what, number in zip(_PANELS, numbers, strict=True):
                yield {"run": run.name, "at_s": moment.at_s, "what": what, "number": number}


def _svg(chart: alt.FacetChart) -> str:
    return vl_convert.vegalite_to_svg(chart.to_json())
