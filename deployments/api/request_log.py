"""Owns the log line of a finished request: one JSON object, whatever happened. Never a prompt, never an answer."""

from __future__ import annotations

from typing import Any

from deployments.api.request_record import RequestRecord


def facts_of(record: RequestRecord) -> dict[str, Any]:
    """What the log says of one request; times in seconds unless the name says milliseconds."""
    return {
        "request_id": record.request_id,
        "route": record.route,
        "status": record.status,
        "error_code": record.error_code,
        "tenant": record.tenant,
        "model": record.model,
        "priority": None if record.standing is None else record.standing.priority,
        "class": None if record.standing is None else record.standing.service_class,
        **_start_facts(record),
        "ttft_s": _rounded(record.ttft_s),
        "tpot_s": _rounded(record.tpot_s),
        "e2e_s": _rounded(record.e2e_s),
        "prompt_tokens": record.num_prompt_tokens,
        "output_tokens": record.num_output_tokens,
        "cached_tokens": record.num_cached_tokens,
        "failovers": record.num_failovers,
        "finish_reasons": record.finish_reasons,
    }


def _start_facts(record: RequestRecord) -> dict[str, Any]:
    started = record.started
    return {
        "key": None if started is None else _rounded(started.key),
        "queue_ms": None if started is None else round(started.queue_s * 1000, 1),
        "replica": None if started is None else started.replica_id,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
