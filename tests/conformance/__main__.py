"""`make conformance`: other people's tests against one real service. Exits with 1 where a suite does not pass."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from tests.conformance.environments import Environment
from tests.conformance.results import closing_lines
from tests.conformance.suite import NAMES_IN_OPENAI_TESTS, SUITES, play
from tests.service.conftest import EMBEDDED, MODEL
from tests.service.running import running_service, serve_config


def main(
    only: Annotated[str, typer.Option(help="only these suites, separated by commas")] = "",
    base_url: Annotated[str, typer.Option(help="a service that runs already, with the three models")] = "",
) -> None:
    """Makes the environments, starts a service, plays the suites against it, and says what came of it."""
    chosen = [suite for suite in SUITES if not only or suite.name in only.split(",")]
    for environment in Environment:
        environment.install()
    with tempfile.TemporaryDirectory(prefix="fastserve-conformance-") as folder:
        if base_url:
            results = [play(suite, base_url, Path(folder)) for suite in chosen]
        else:
            with running_service(three_models()) as service:
                results = [play(suite, service.base_url, Path(folder)) for suite in chosen]
    typer.echo("\n".join(closing_lines(results)))
    sys.exit(0 if results and all(result.is_clean for result in results) else 1)


def three_models() -> dict[str, Any]:
    """A serve_config with the shipped model under its own name and those that the `openai` tests use."""
    config = serve_config(EMBEDDED)
    [application] = config["applications"]
    for name in NAMES_IN_OPENAI_TESTS:
        application["args"]["models"].append({**EMBEDDED, "name": name})
        application["deployments"].append({"name": name, "num_replicas": 1})
    assert [model["name"] for model in application["args"]["models"]] == [MODEL, *NAMES_IN_OPENAI_TESTS]
    return config


if __name__ == "__main__":
    typer.run(main)
