"""Owns how a log line looks: one JSON object. Knows nothing of what is logged."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

import orjson
import structlog

_SEPARATORS = (",", ":")  # as orjson's
# Without the values of local variables: prompts are among them.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def make_logger(stream: TextIO | None = None) -> structlog.typing.FilteringBoundLogger:
    """A logger of JSON lines, of printable ASCII alone: whatever a client may have put into them is escaped.

    stream: the process's own standard error unless given. Not `sys.stderr`: Ray Serve puts a logger in its place that
    holds lines back until there are a thousand of them, and a process that is killed takes them along.
    """
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(stream or sys.__stderr__),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _TRACEBACKS,
            structlog.processors.JSONRenderer(serializer=_line),
        ],
    )
    return logger


def _line(event: Any, **_: object) -> str:
    """The event as JSON. The slow way is for what has more than ASCII in it, or cannot be said in UTF-8 at all."""
    try:
        text = orjson.dumps(event, default=str).decode()
    except TypeError:  # a lone surrogate, or a number of more than 64 bits
        text = json.dumps(event, default=str, separators=_SEPARATORS)
    if not text.isascii():
        text = json.dumps(orjson.loads(text), separators=_SEPARATORS)
    return text.replace("\x7f", "\\u007f")
