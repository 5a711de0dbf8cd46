"""Owns the report as one HTML page: tables and drawings of runs beside each other. It needs no network, no script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from simulation.likeness import MeasuredRun, likenesses
from simulation.outcome import Outcome
from simulation.plots import course, ttft_by_class
from simulation.results import Figures, GroupFigures, Times

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
figure { margin: 1rem 0; overflow-x: auto; }
figcaption, .note { color: #555; }
svg { max-width: 100%; height: auto; }
""".strip()

_GROUP_COLUMNS = (
    *("requests", "answered", "refused", "shed", "late", "too large"),
    *("TTFT p50", "p95", "p99", "TPOT p50", "p95", "p99", "queue p50", "p99"),
    *("goodput/s", "tokens/s", "preempted"),
)
_FLEET_COLUMNS = (
    *(
        "most replicas",
        "replica-hours",
        "busy",
        "slots in use",
        "steps",
        "by swap",
        "by recompute",
        "tokens recomputed",
    ),
    *("grants checked", "violations", "smallest slack"),
)


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What stands around the figures.

    traffic: in words. provenance: what made the page, a line each. measured: what a real service did under this load;
    the first run is held against it.
    """

    title: str
    traffic: str
    provenance: Sequence[str]
    measured: MeasuredRun | None = None


def render(runs: Sequence[Figures], facts: PageFacts) -> str:
    """The page. There must be a run."""
    sections = [
        f"<h1>{escape(facts.title)}</h1>",
        f"<p>{escape(facts.traffic)}</p>",
        *_groups("By class", "class", [(run, group) for run in runs for group in [*run.classes, run.total]]),
        _figure(ttft_by_class(runs), "Time to first token, as clients see it, of all answers."),
        *_measured(runs[0], facts.measured),
        *_tenants(runs),
        *_fleet(runs),
        _figure(course(runs), "The first round."),
        f'<p class="note">{_HOW_TO_READ}</p>',
        "<ul>",
        *(f"<li>{escape(line)}</li>" for line in facts.provenance),
        "</ul>",
    ]
    head = f'<meta charset="utf-8"><title>{escape(facts.title)}</title><style>{_STYLE}</style>'
    return "\n".join(["<!doctype html>", f'<html lang="en"><head>{head}</head><body>', *sections, "</body></html>", ""])


_HOW_TO_READ = (
    "Times in milliseconds, of answered requests only: read them beside those that were refused, shed or late. "
    "Goodput: answers that met both objectives of their class. Busy: the share of replicas' time spent in a step. "
    "Smallest slack: by how many seconds the closest grant kept within the bound on overtaking."
)


def _groups(title: str, kind: str, rows: Sequence[tuple[Figures, GroupFigures]]) -> Iterator[str]:
    yield f"<h2>{title}</h2>"
    yield _table(("run", kind, *_GROUP_COLUMNS), [(run.name, group.name, *_group_cells(group)) for run, group in rows])


def _measured(run: Figures, measured: MeasuredRun | None) -> Iterator[str]:
    """Nothing where nothing was measured."""
    if measured is None:
        return
    yield f"<h2>{escape(run.name)} beside {escape(measured.name)}</h2>"
    rows = [
        (each.what, f"{each.measured:.4g} {each.unit}", f"{each.played:.4g} {each.unit}", f"{each.ratio:.2f}")
        for each in likenesses(run, measured)
    ]
    yield _table(("", "measured", "played", "played over measured"), rows)


def _tenants(runs: Sequence[Figures]) -> Iterator[str]:
    """Nothing where there is only one."""
    rows = [(run, group) for run in runs for group in run.tenants]
    if len({group.name for _, group in rows}) > 1:
        yield from _groups("By tenant", "tenant", rows)


def _fleet(runs: Sequence[Figures]) -> Iterator[str]:
    yield "<h2>Replicas and order</h2>"
    yield _table(("run", *_FLEET_COLUMNS), [(run.name, *_fleet_cells(run)) for run in runs])


def _group_cells(group: GroupFigures) -> Iterator[str]:
    yield str(group.num_requests)
    yield from (str(group.outcomes.get(outcome.value, 0)) for outcome in Outcome)
    yield from _times(group.ttft)
    yield from _times(group.tpot)
    yield _ms(group.queue.p50_s)
    yield _ms(group.queue.p99_s)
    yield f"{group.goodput_per_s:.3g}"
    yield f"{group.output_tokens_per_s:.1f}"
    yield str(group.num_preemptions)


def _fleet_cells(run: Figures) -> Iterator[str]:
    fleet, order = run.fleet, run.order
    yield from (str(fleet.most_replicas), f"{fleet.replica_hours:.3g}", f"{fleet.busy_share:.0%}")
    yield from (f"{fleet.slot_share:.0%}", str(fleet.num_steps))
    yield from (str(fleet.num_preemptions_by_swap), str(fleet.num_preemptions_by_recompute))
    yield str(fleet.num_recomputed_tokens)
    yield from (str(order.num_checked), str(order.num_violations))
    yield "-" if order.smallest_slack_s is None else f"{order.smallest_slack_s:.3g} s"


def _times(times: Times) -> Iterator[str]:
    return map(_ms, (times.p50_s, times.p95_s, times.p99_s))


def _ms(time_s: float | None) -> str:
    return "-" if time_s is None else f"{1000 * time_s:.1f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [_row("th", columns), *(_row("td", row) for row in rows)]
    return "\n".join(["<table>", *lines, "</table>"])


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
