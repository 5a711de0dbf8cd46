"""Runs the launcher on a tiny application in a process of its own, as `fastserve serve` would. No pytest here."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml
from rich.console import Console

from fastserve.launcher import Expected, ServiceAddress, launch, stop_on_signals
from fastserve.ports import free_port

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Launched:
    """A launcher that runs, and where its application is."""

    process: subprocess.Popen[str]
    base_url: str

    def line_with(self, text: str) -> str:
        """The next line of its output that contains `text`; the test's own timeout is the bound."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return line
        raise AssertionError(f"the launcher ended with {self.process.wait()} and never said {text!r}")

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@contextlib.contextmanager
def launched(folder: Path, builder: str, environment: Mapping[str, str] | None = None) -> Iterator[Launched]:
    port = free_port()
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(_config(port, builder)))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fastserve.launching", str(config), str(port)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        with process:
            try:
                yield Launched(process, f"http://127.0.0.1:{port}")
            finally:
                process.terminate()
    finally:
        process.wait()


def _config(port: int, builder: str) -> dict[str, object]:
    application = {
        "name": "tiny",
        "route_prefix": "/",
        "import_path": f"tests.fastserve.tiny_app:{builder}",
        "args": {"kind": "tiny"},
    }
    return {"http_options": {"host": "127.0.0.1", "port": port}, "applications": [application]}


if __name__ == "__main__":
    stopped = threading.Event()
    stop_on_signals(stopped)
    expected = Expected(ServiceAddress("127.0.0.1", int(sys.argv[2])), max_open_requests=100)
    sys.exit(launch(Path(sys.argv[1]), expected, stopped, Console(stderr=True, width=200)))
