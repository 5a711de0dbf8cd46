"""The `fastserve` command: reads arguments, prints results, sets exit codes. Every command's work is done elsewhere."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fastserve.bench_command import bench
from fastserve.exit_codes import err, errors_as_exit_code
from fastserve.simulate_command import simulate

DEFAULT_URL = "http://127.0.0.1:8000"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
models_app = typer.Typer(no_args_is_help=True, help="The models that come without a hub.")
app.add_typer(models_app, name="models")
app.command()(bench)
app.command()(simulate)
out = Console()

ConfigPath = Annotated[Path, typer.Argument(help="The configuration file.")]
Url = Annotated[str, typer.Option(envvar="FASTSERVE_URL", help="Where the service is.")]
ApiKey = Annotated[str | None, typer.Option(envvar="FASTSERVE_API_KEY", help="Names the tenant, where keys are set.")]


@app.command()
def serve(
    config: ConfigPath = Path("serve_config.yaml"),
    until_input_ends: Annotated[bool, typer.Option(help="Stop when standard input is closed.")] = False,
) -> None:
    """Serve CONFIG in the foreground until Ctrl-C or SIGTERM, and leave nothing behind."""
    from fastserve.launcher import launch, stop_on_signals, stop_when_input_ends
    from fastserve.start_checks import check_start

    stop = threading.Event()
    with errors_as_exit_code():
        # It may fetch for minutes; a signal ends it at once, because there is nothing to end yet.
        expected = check_start(config)
        stop_on_signals(stop)
        if until_input_ends:
            stop_when_input_ends(stop)
        status = launch(config, expected, stop, err)
    raise typer.Exit(status)


@app.command()
def validate(config: ConfigPath = Path("serve_config.yaml")) -> None:
    """Check CONFIG as the service would: every problem with its key, its value and what was expected."""
    from deployments.serve_config import load_serve_config

    with errors_as_exit_code():
        load_serve_config(config)
    out.print(f"[green]{config} is valid[/]")


@app.command()
def key() -> None:
    """A new API key for a client, and the line that lets it in: the service need not know the key itself."""
    from deployments.tenant_keys import SHA256_PREFIX, digest_of, new_key

    made = new_key()
    out.print(f"key:  {made}", soft_wrap=True, highlight=False)
    out.print(f"line: '{SHA256_PREFIX}{digest_of(made.encode())}': {{name: NAME}}", soft_wrap=True, highlight=False)


@models_app.command("list")
def list_models() -> None:
    """Which embedded models there are, and where the installed ones lie."""
    from engine.checkpoint import models_folder
    from fastserve.embedded_model import EMBEDDED_MODELS, is_installed

    table = Table("source", "installed")
    for model in EMBEDDED_MODELS.values():
        folder = models_folder() / model.name
        table.add_row(f"embedded:{model.name}", str(folder) if is_installed(model, models_folder()) else "no")
    out.print(table)


@models_app.command("install")
def install_model(name: Annotated[str, typer.Argument()] = "SmolLM2-135M-Instruct") -> None:
    """Fetch, verify and convert an embedded model into the cache."""
    from engine.checkpoint import models_folder
    from fastserve.embedded_model import EMBEDDED_MODELS, install

    if name not in EMBEDDED_MODELS:
        err.print(f"[red]{name}[/]: expected one of {', '.join(EMBEDDED_MODELS)}")
        raise typer.Exit(1)
    with errors_as_exit_code():
        out.print(install(EMBEDDED_MODELS[name], models_folder()), soft_wrap=True)


@app.command()
def chat(
    prompt: Annotated[str | None, typer.Argument(help="One question; without it, a conversation.")] = None,
    model: Annotated[str | None, typer.Option(help="The service's first model unless given.")] = None,
    priority: Annotated[float, typer.Option(min=-100, max=100, help="Higher runs sooner.")] = 0.0,
    max_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2)] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Talk to a running service; answers stream."""
    from fastserve.chat_command import AnswerOptions, Conversation, typed_prompts
    from fastserve.client import Client
    from fastserve.service_queries import ServiceQueries

    with errors_as_exit_code():
        name = model or ServiceQueries(url, api_key).models()[0].id
        with Client(url, api_key=api_key) as client:
            conversation = Conversation(client, AnswerOptions(name, priority, max_tokens, temperature), out)
            if prompt is not None:
                conversation.ask(prompt)
            else:
                conversation.go_on(typed_prompts(out))


@app.command()
def queue(url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Who waits, in the order in which they will run, and why."""
    from fastserve.service_queries import ServiceQueries

    with errors_as_exit_code():
        queues = ServiceQueries(url, api_key).queues()
    for shown in queues:
        title = f"{shown.model}: {shown.num_running} running, {len(shown.waiting)} waiting"
        table = Table("#", "request", "tenant", "class", "priority", "key", "waited s", "tokens", "why", title=title)
        for row in shown.waiting:
            numbers = (f"{row.priority:g}", f"{row.key:.2f}", f"{row.waited_s:.1f}", str(row.num_prompt_tokens))
            table.add_row(str(row.position), row.request_id, row.tenant, row.service_class, *numbers, row.why)
        out.print(table)


if __name__ == "__main__":
    app()
