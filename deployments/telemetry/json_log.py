"""Owns how a log line looks: one JSON object. Knows nothing of what is logged."""

from __future__ import annotations

import sys
from typing import TextIO

import orjson
import structlog

# Without the values of local variables: prompts are among them.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def make_logger(stream: TextIO | None = None) -> structlog.typing.FilteringBoundLogger:
    """A logger of JSON lines. JSON escapes whatever a client may have put into an id.

    stream: the process's own standard error unless given. Not `sys.stderr`: Ray Serve puts a logger in its place that
    holds lines back until there are a thousand of them, and a process that is killed takes them along.
    """
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(stream or sys.__stderr__),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _TRACEBACKS,
            structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event, default=str).decode()),
        ],
    )
    return logger
