"""The report's page: everything in it, and nothing from elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace

from simulation.page import PageFacts, render
from simulation.play import play
from simulation.results import Figures
from simulation.traffic import OpenLoop
from tests.simulation.factories import first
from tests.simulation.scenarios import arrival, make_scenario, make_shape

FACTS = PageFacts("A title", "Poisson, 1 request/s", ["command: fastserve simulate"])


def figures(name: str = "here") -> Figures:
    return play(make_scenario(name=name, shape=make_shape(num_blocks=400)), [OpenLoop(first(50, rate_per_s=0.3))])


def test_runs_stand_beside_each_other_for_each_class() -> None:
    page = render([figures("as it is"), figures("what if")], FACTS)
    for name in ("urgent", "standard", "flex", "all"):
        assert f"<td>as it is</td><td>{name}</td>" in page
        assert f"<td>what if</td><td>{name}</td>" in page


def test_the_page_has_its_drawings_inside_and_asks_nobody_for_anything() -> None:
    page = render([figures()], FACTS)
    assert page.count("<svg") == 2
    assert "<script" not in page
    fetched = re.findall(r"""(?:src|href)\s*=\s*["']?(?!#)[^"'\s>]+""", page.replace("xlink:href", ""))
    assert fetched == []


def test_names_cannot_become_markup() -> None:
    page = render([figures("<b>&")], replace(FACTS, title="<i>"))
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;" in page
    assert "<h1>&lt;i&gt;</h1>" in page


def test_times_are_in_milliseconds_and_missing_ones_are_dashes() -> None:
    page = render([play(make_scenario(), [OpenLoop([arrival(num_output_tokens=1)])])], FACTS)
    assert "<td>2000.0</td><td>2000.0</td><td>2000.0</td><td>-</td><td>-</td><td>-</td>" in page


def test_tenants_have_a_table_only_where_there_are_several() -> None:
    assert "By tenant" not in render([figures()], FACTS)
    two = play(make_scenario(), [OpenLoop([arrival(tenant="one"), arrival(tenant="other")])])
    assert "By tenant" in render([two], FACTS)


def test_what_made_the_page_stands_in_it() -> None:
    page = render([figures()], FACTS)
    assert "<li>command: fastserve simulate</li>" in page
    assert "Poisson, 1 request/s" in page
