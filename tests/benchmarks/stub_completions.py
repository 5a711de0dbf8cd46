"""A service whose completions have exactly the length asked for, streamed or whole. Knows nothing of models.

It runs in this process, or as one of its own: `python -m tests.benchmarks.stub_completions PORT` serves until
it is ended.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAIT_S = 10
NUM_PROMPT_TOKENS = 7
_DOCUMENTS: dict[str, Any] = {
    "/v1/models": {"object": "list", "data": [{"id": "stub", "object": "model"}]},
    "/readyz": {"status": "ready"},
}


@dataclass(slots=True)
class Completions:
    """How to answer. refused: by number, from 0 on, with `refused_with` and this Retry-After. together: each answer
    waits until so many are asked for at once. hold: until it is set. A whole answer's tokens are each the last of their
    prompt."""

    refused: range = range(0)
    refused_with: int = 429
    retry_after: str | None = None
    too_short_by: int = 0
    together: threading.Barrier | None = None
    hold: threading.Event | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    _taking: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def take(self, body: dict[str, Any], key: str | None) -> int:
        """Keeps what is asked for; its number. Each request has a thread of its own."""
        with self._taking:
            self.asked.append(body)
            self.keys.append(key)
            return len(self.asked) - 1


class _Answering(BaseHTTPRequestHandler):
    completions: Completions

    def do_GET(self) -> None:
        document = _DOCUMENTS.get(self.path)
        self._send(200 if document is not None else 404, json.dumps(document or {}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        number = self.completions.take(body, self.headers["authorization"])
        if number in self.completions.refused:
            self._send(self.completions.refused_with, b'{"error": {"message": "queue full"}}')
            return
        if self.completions.together is not None:
            self.completions.together.wait(WAIT_S)
        if self.completions.hold is not None:
            self.completions.hold.wait(WAIT_S)
        num_tokens = body["max_tokens"] - self.completions.too_short_by
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if body.get("stream"):
                self._stream(num_tokens)
            else:
                self._send(200, json.dumps(_whole(body["prompt"], num_tokens)).encode())

    def _stream(self, num_tokens: int) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for _ in range(num_tokens):
            self._event({"choices": [{"index": 0, "text": "word "}], "usage": None})
        self._event({"choices": [], "usage": {"prompt_tokens": NUM_PROMPT_TOKENS, "completion_tokens": num_tokens}})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, event: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if status != 200 and self.completions.retry_after is not None:
            self.send_header("retry-after", self.completions.retry_after)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing: the tests look at `Completions.asked`."""


def _whole(prompts: list[list[int]], num_tokens: int) -> dict[str, Any]:
    """The last choice comes first: their numbers say which is which."""
    choices = [{"index": at, "token_ids": [prompt[-1]] * num_tokens} for at, prompt in enumerate(prompts)]
    return {"choices": choices[::-1]}


def _server(completions: Completions, port: int = 0) -> ThreadingHTTPServer:
    return ThreadingHTTPServer(("127.0.0.1", port), type("Scripted", (_Answering,), {"completions": completions}))


@contextlib.contextmanager
def stub_completions(completions: Completions) -> Iterator[str]:
    """The base URL of a service that answers as it is told."""
    server = _server(completions)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        if completions.hold is not None:
            completions.hold.set()
        server.shutdown()
        thread.join(WAIT_S)
        server.server_close()


if __name__ == "__main__":
    _server(Completions(), int(sys.argv[1])).serve_forever()
