"""`make conformance`: other people's tests against one real service. Exits with 1 where a suite does not pass."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tests.conformance.environments import Environment
from tests.conformance.results import Result, closing_lines
from tests.conformance.suite import NAMES_IN_OPENAI_TESTS, SUITES, Suite, play
from tests.service.conftest import EMBEDDED
from tests.service.running import running_service, serve_config


def main(
    only: Annotated[str, typer.Option(help="only these suites, separated by commas")] = "",
    base_url: Annotated[str, typer.Option(help="a service that runs already, with the three models")] = "",
) -> None:
    """Makes the environments, starts a service, plays the suites against it, and says what came of it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that everything started is ended
    chosen = [suite for suite in SUITES if not only or suite.name in only.split(",")]
    for environment in Environment:
        environment.install()
    with tempfile.TemporaryDirectory(prefix="fastserve-conformance-") as folder:
        if base_url:
            results = _played(chosen, base_url, Path(folder))
        else:
            with running_service(three_models()) as service:
                results = _played(chosen, service.base_url, Path(folder))
    typer.echo("\n".join(closing_lines(results)))
    sys.exit(0 if results and all(result.is_clean for result in results) else 1)


def three_models() -> dict[str, Any]:
    """A serve_config with the shipped model under its own name and those that the `openai` tests use.

    In float32: greedy answers are the same on every machine, and processors without bfloat16 take their time over it.
    Short: those tests give no bound, and a small model does not always find the end of an answer.
    """
    shipped = {**EMBEDDED, "dtype": "float32", "max_model_len": 1024}
    config = serve_config(shipped)
    [application] = config["applications"]
    for name in NAMES_IN_OPENAI_TESTS:
        application["args"]["models"].append({**shipped, "name": name, "max_model_len": 256})
        application["deployments"].append({"name": name, "num_replicas": 1})
    return config


def _played(suites: Sequence[Suite], base_url: str, scratch: Path) -> list[Result]:
    results = []
    for suite in suites:
        typer.echo(f"\n{suite.name}")
        results.append(play(suite, base_url, scratch))
    return results


if __name__ == "__main__":
    typer.run(main)
