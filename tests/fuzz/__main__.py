"""`python -m tests.fuzz [--cases N]`: plays the service's own OpenAPI page against the real service, over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer

from tests.fuzz import CASES, MODEL, URL
from tests.service.conftest import EMBEDDED
from tests.service.conftest import MODEL as SERVED
from tests.service.running import ROOT, running_service, serve_config


def main(
    cases: Annotated[int, typer.Option(min=1, help="Of each of the ten operations.")] = 680,
) -> None:
    """Ends with what pytest does."""
    command = [sys.executable, "-m", "pytest", "tests/fuzz", "--timeout", "3600"]
    with running_service(serve_config(EMBEDDED, num_ingress=2)) as service:
        told = {CASES: str(cases), URL: service.base_url, MODEL: SERVED}
        done = subprocess.run(command, cwd=ROOT, env=os.environ | told, check=False, timeout=3 * 3600)
    sys.exit(done.returncode)


if __name__ == "__main__":
    typer.run(main)
