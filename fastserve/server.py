"""Owns a service from Python: started, asked, stopped. The service itself runs in processes of its own.

Knows nothing of Ray: it starts the same launcher as the command line does, so that both serve in the same way.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from fastserve.chat_stream import ChatTurn
from fastserve.client import MAX_TASKS, Client, Task
from fastserve.errors import ServerFailed, ServerNotRunning
from fastserve.model_description import ModelDescription, load_model
from fastserve.ports import LOOPBACK, free_port
from fastserve.readiness import is_ready

_POLL_S = 0.25
_STOP_WITHIN_S = 40.0
_LOG_LINES = 20


class ModelServer:
    """Serves one model on this machine, on loopback, with a Ray of its own.

    port: a free one unless given. num_replicas: how many copies of the model. alpha, beta: the weights of priority and
    of waiting time. Further options are those of a model in `serve_config.yaml`, such as tensor_parallel_size.
    """

    def __init__(
        self,
        model: str | ModelDescription,
        *,
        port: int | None = None,
        num_replicas: int = 1,
        alpha: float = 1.0,
        beta: float = 0.1,
        max_tasks: int = MAX_TASKS,
        **engine_options: Any,
    ) -> None:
        self.model = model if isinstance(model, ModelDescription) else load_model(model)
        self.port = port or free_port()
        self._config = serve_config(self.model, self.port, num_replicas, alpha, beta, engine_options)
        self._max_tasks = max_tasks
        self._running = contextlib.ExitStack()
        self._client: Client | None = None

    @property
    def base_url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def start(self, timeout: float = 300.0) -> Self:
        """Returns when the service answers; starting a started server does nothing.

        Raises:
            ServerFailed: it ended by itself, or was not ready within `timeout` seconds; with the end of its log.
        """
        if self._client is None:
            with contextlib.ExitStack() as started:
                folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="fastserve-")))
                process = _start_launcher(self._config, folder)
                started.callback(_end, process)
                _wait_until_ready(process, self.base_url, folder / "service.log", timeout)
                self._client = started.enter_context(Client(self.base_url, max_tasks=self._max_tasks))
                self._running = started.pop_all()
        return self

    def submit(
        self,
        prompt: str | Sequence[ChatTurn],
        *,
        priority: float = 0.0,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        deadline_ms: float | None = None,
    ) -> Task:
        """Asks for an answer and returns at once; of two that wait, the one of higher priority starts first.

        Raises:
            ServerNotRunning: `start` has not been called, or `stop` has.
            TooManyTasks: as many are unfinished as this server's client may hold.
        """
        if self._client is None:
            raise ServerNotRunning("call start() first")
        return self._client.submit(
            prompt,
            model=self.model.name,
            priority=priority,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            stop=stop,
            deadline_ms=deadline_ms,
        )

    def stop(self) -> None:
        """Cancels unfinished tasks and ends every process of the service. Stopping a stopped server does nothing."""
        self._client = None
        self._running.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def serve_config(
    model: ModelDescription, port: int, num_replicas: int, alpha: float, beta: float, engine_options: dict[str, Any]
) -> dict[str, Any]:
    """What `serve_config.yaml` would say. The service validates it, so that both give the same errors."""
    return {
        "http_options": {"host": LOOPBACK, "port": port},
        "applications": [
            {
                "name": "fastserve",
                "route_prefix": "/",
                "import_path": "deployments.app:build",
                "args": {"models": [{"name": model.name, "source": model.source, **engine_options}]},
                "deployments": [
                    {"name": "Ingress", "user_config": {"alpha": alpha, "beta": beta}},
                    {"name": model.name, "num_replicas": num_replicas},
                ],
            }
        ],
    }


def _start_launcher(config: dict[str, Any], folder: Path) -> subprocess.Popen[bytes]:
    """The launcher holds our end of a pipe: if this process dies without a word, the service ends too."""
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config))
    with (folder / "service.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "fastserve.cli", "serve", str(path), "--until-input-ends"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_until_ready(process: subprocess.Popen[bytes], base_url: str, log: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not is_ready(base_url):
        if process.poll() is not None:
            raise ServerFailed(f"the service ended with {process.returncode}:\n{_end_of(log)}")
        if time.monotonic() > deadline:
            raise ServerFailed(f"the service was not ready within {timeout:g} s:\n{_end_of(log)}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks the launcher to end everything, which takes it at most 30 seconds."""
    with process:
        process.terminate()
        try:
            process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
