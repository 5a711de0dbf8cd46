"""`fastserve bench`: reads arguments, has a service or an engine measured, prints the figures. Times nothing itself."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fastserve.exit_codes import err, errors_as_exit_code

_DEFAULT_CLIENTS = [1, 8]


def bench(
    config: Annotated[Path, typer.Argument(help="With --calibrate: whose engine.")] = Path("serve_config.yaml"),
    base_url: Annotated[str | None, typer.Option(help="A running service; needed without --calibrate.")] = None,
    calibrate: Annotated[bool, typer.Option(help="Measure what the twin needs, and write --out.")] = False,
    model: Annotated[str | None, typer.Option(help="The first unless given.")] = None,
    out: Annotated[Path, typer.Option(help="Where a calibration goes.")] = Path("costs.json"),
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Of the engine's steps.")] = 9,
    clients: Annotated[list[int], typer.Option(min=1, max=4096, help="A number of clients; repeat it.")] = (
        _DEFAULT_CLIENTS
    ),
    requests: Annotated[int, typer.Option(min=1, max=1000, help="Of each client.")] = 4,
    prompt_words: Annotated[int, typer.Option(min=1, max=65536)] = 64,
    output_tokens: Annotated[int, typer.Option(min=2, max=65536)] = 128,
    seed: Annotated[int, typer.Option(help="Of prompts, and of the order of steps.")] = 1,
) -> None:
    """Put a short load on a running service; or calibrate the twin, on the engine and the service at --base-url."""
    if not calibrate and base_url is None:
        raise typer.BadParameter("--base-url: expected the address of a running service, or --calibrate")
    if calibrate:
        _calibrate(config, model, base_url, out, rounds, seed)
    else:
        assert base_url is not None
        _load(base_url, model, clients, requests, prompt_words, output_tokens, seed)


def _calibrate(config: Path, model: str | None, base_url: str | None, out: Path, rounds: int, seed: int) -> None:
    from deployments.serve_config import load_serve_config
    from fastserve.calibration.calibrate import Calibration, calibrate, shown
    from fastserve.calibration.fit import FitFailed
    from fastserve.own_process import PartFailed
    from fastserve.published_command import published_command
    from fastserve.scenarios import chosen_model

    with errors_as_exit_code(PartFailed, FitFailed):
        asked = Calibration(
            model=chosen_model(load_serve_config(config), model),
            base_url=base_url,
            num_rounds=rounds,
            seed=seed,
            command=published_command("fastserve bench", sys.argv[2:]),
            date=datetime.now(UTC).date().isoformat(),
        )
        costs = calibrate(asked, out, err)
    Console().print(shown(costs))
    err.print(f"written: {out}", markup=False, soft_wrap=True)


def _load(
    base_url: str, model: str | None, clients: list[int], requests: int, words: int, tokens: int, seed: int
) -> None:
    from fastserve.service_load import short_load
    from fastserve.service_queries import ServiceQueries
    from fastserve.streamed_load import LoadRequest

    with errors_as_exit_code():
        name = model or ServiceQueries(base_url).models()[0].id
        Console().print(short_load(base_url, LoadRequest(name, words, tokens), clients, requests, seed))
