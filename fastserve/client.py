"""Owns tasks: answers on their way, for callers without an event loop. Knows nothing of who runs the service."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import httpx

from fastserve.chat_stream import ChatRequest, ChatTurn, stream_chat
from fastserve.errors import ServerNotRunning, TaskCancelled, TooManyTasks

MAX_TASKS = 4000
_TIMEOUT = httpx.Timeout(connect=10, read=3600, write=60, pool=3600)


class Task:
    """One answer that is on its way. Its methods may be called from any thread."""

    def __init__(self, answer: concurrent.futures.Future[str], pieces: queue.SimpleQueue[str | None]) -> None:
        self._answer = answer
        self._pieces = pieces

    def result(self, timeout: float | None = None) -> str:
        """Waits for the whole answer.

        Raises:
            TimeoutError: `timeout` seconds went by; the task goes on.
            FastServeError: see `fastserve.errors`.
        """
        try:
            return self._answer.result(timeout)
        except concurrent.futures.CancelledError:
            raise TaskCancelled("the task was cancelled") from None

    def stream(self) -> Iterator[str]:
        """Pieces of text as they arrive, then the error if there was one. Each piece is given once."""
        while (piece := self._pieces.get()) is not None:
            yield piece
        self._pieces.put(None)
        self.result()

    def cancel(self) -> None:
        """Closes the connection, which frees the request's place in the service. Does nothing to a finished task."""
        self._answer.cancel()

    def done(self) -> bool:
        return self._answer.done()


class Client:
    """Submits chat requests to a running service. One event loop on one thread serves all tasks."""

    def __init__(self, base_url: str, *, api_key: str | None = None, max_tasks: int = MAX_TASKS) -> None:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx.Limits(max_connections=max_tasks, max_keepalive_connections=32)
        self._http = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=_TIMEOUT, limits=limits)
        self._max_tasks = max_tasks
        self._answers: list[concurrent.futures.Future[str]] = []
        self._submitting = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fastserve-client", daemon=True)
        self._thread.start()

    def submit(
        self,
        prompt: str | Sequence[ChatTurn],
        *,
        model: str,
        priority: float = 0.0,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        deadline_ms: float | None = None,
    ) -> Task:
        """Asks for an answer and returns at once. A plain string is one turn of the user's.

        Raises:
            TooManyTasks: as many are unfinished as this client may hold.
            ServerNotRunning: the client is closed.
        """
        turns = [ChatTurn("user", prompt)] if isinstance(prompt, str) else prompt
        return self._start(ChatRequest(model, turns, priority, max_tokens, temperature, top_p, seed, stop, deadline_ms))

    def close(self) -> None:
        """Cancels what is unfinished. Calling it again does nothing."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _start(self, request: ChatRequest) -> Task:
        if self._loop.is_closed():
            raise ServerNotRunning("this client is closed")
        pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        with self._submitting:
            self._make_room()
            answer = asyncio.run_coroutine_threadsafe(self._run(request, pieces), self._loop)
            self._answers.append(answer)
        answer.add_done_callback(lambda _: pieces.put(None))
        return Task(answer, pieces)

    def _make_room(self) -> None:
        """Forgets what is finished, but only looks when the list is full."""
        if len(self._answers) >= self._max_tasks:
            self._answers = [answer for answer in self._answers if not answer.done()]
        if len(self._answers) >= self._max_tasks:
            raise TooManyTasks(self._max_tasks)

    async def _run(self, request: ChatRequest, pieces: queue.SimpleQueue[str | None]) -> str:
        text = []
        async for piece in stream_chat(self._http, request):
            text.append(piece)
            pieces.put(piece)
        return "".join(text)

    async def _finish(self) -> None:
        unfinished = asyncio.all_tasks() - {asyncio.current_task()}
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        await self._http.aclose()
