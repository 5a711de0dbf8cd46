"""A service in this process that answers as it is told, and keeps what it was asked. Knows nothing of models."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAIT_S = 10


@dataclass(slots=True)
class Script:
    """How to answer. `hold_after`: after so many pieces the answer waits for `go_on`."""

    pieces: list[str] = field(default_factory=lambda: ["The capital ", "is Paris."])
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    error_event: str | None = None
    complete: bool = True
    hold_after: int | None = None
    go_on: threading.Event = field(default_factory=threading.Event)
    got_disconnect: threading.Event = field(default_factory=threading.Event)
    asked: list[dict[str, Any]] = field(default_factory=list)
    documents: dict[str, Any] = field(default_factory=dict)


class _Answering(BaseHTTPRequestHandler):
    script: Script

    def do_POST(self) -> None:
        self.script.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        if self.script.status != 200:
            self._send(self.script.status, self.script.body)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        try:
            self._stream()
        except (BrokenPipeError, ConnectionResetError):
            self.script.got_disconnect.set()

    def do_GET(self) -> None:
        document = self.script.documents.get(self.path)
        self._send(200 if document is not None else 404, json.dumps(document or {}).encode())

    def _stream(self) -> None:
        for index, piece in enumerate(self.script.pieces):
            if index == self.script.hold_after:
                self._hold()
            self._event({"choices": [{"index": 0, "delta": {"content": piece}}]})
        if self.script.error_event is not None:
            self._event({"error": {"message": self.script.error_event}})
        if self.script.complete:
            self.wfile.write(b"data: [DONE]\n\n")

    def _hold(self) -> None:
        """Until told to go on, or until the client is gone: it never sends anything more, so a read means the end."""
        self.connection.settimeout(0.05)
        while not self.script.go_on.is_set():
            with contextlib.suppress(TimeoutError):
                if self.connection.recv(1) == b"":
                    raise BrokenPipeError
        self.connection.settimeout(None)

    def _event(self, event: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        for name, value in {**self.script.headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing: the tests look at `Script.asked`."""


@contextlib.contextmanager
def stub_service(script: Script) -> Iterator[str]:
    """The base URL of a service that follows `script`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Scripted", (_Answering,), {"script": script}))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        script.go_on.set()
        server.shutdown()
        thread.join(WAIT_S)
        server.server_close()
