"""Owns what a user of the Python face may have to catch, on one page. Knows nothing of how it comes about."""

from __future__ import annotations


class FastServeError(Exception):
    """The root of all errors of the Python face."""


class ServerNotRunning(FastServeError):
    """The server has not been started, or has been stopped. A mistake in the calling program."""


class ServerFailed(FastServeError):
    """The service did not start, or ended by itself. Holds the end of its log; for whoever operates it."""


class TooManyTasks(FastServeError):
    """This client already holds as many unfinished tasks as it may. Wait for some and submit again."""

    def __init__(self, max_tasks: int) -> None:
        super().__init__(f"{max_tasks} tasks are unfinished, and no more may be")
        self.max_tasks = max_tasks


class RequestRefused(FastServeError):
    """The service refused the request before its answer began: bad input, a full queue, a deadline, no replica.

    status: the HTTP status. retry_after_s: when it is worth asking again; None when it never is.
    """

    def __init__(self, status: int, message: str, *, code: str | None, retry_after_s: float | None) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
        self.code = code
        self.retry_after_s = retry_after_s


class AnswerFailed(FastServeError):
    """The answer began and could not be completed. What had arrived is in `text`."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


class ServerUnreachable(FastServeError):
    """Nobody answers at the service's address."""


class TaskCancelled(FastServeError):
    """`cancel` was called on this task."""
