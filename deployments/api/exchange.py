"""Owns one request's way from body to last byte, and every way in which it can end. Knows no field of any API.

1. read and check the body     2. prepare: tokenise and plan     3. generate     4. send     5. keep the record
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from deployments.api.answer_parts import Gathering
from deployments.api.answer_writer import AnswerWriter, as_event
from deployments.api.auth import Tenant, tenant_of
from deployments.api.body_room import BodyPlace, BodyRoom
from deployments.api.disconnect import until_disconnected
from deployments.api.gate import Gate
from deployments.api.generation import ChoiceDelta, ChoiceEvent, generate_all
from deployments.api.http_sender import HttpSender
from deployments.api.model_service import ModelService
from deployments.api.openai_responses import AnswerFormat, Usage
from deployments.api.openai_schemas import GenerateRequest, RequestFields
from deployments.api.request_id import request_id_of
from deployments.api.request_plan import Plan
from deployments.api.request_record import CLIENT_CLOSED_REQUEST, RequestRecord
from deployments.api.request_telemetry import Telemetry
from deployments.api.scored_pool import ScoredPool
from deployments.api.standing import Standing, standing_of
from deployments.api.strict_json import parse_json, read_body
from deployments.errors import ApiError, ClientDisconnected, internal_error, model_not_found, to_api_error
from deployments.user_config import IngressUserConfig
from scheduling.score import Stamp

MAX_INLINE_BYTES = 64 * 1024  # a larger body is parsed in the pool: the event loop has answers to send

BodyT = TypeVar("BodyT", bound=RequestFields | GenerateRequest)


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, under which request id, since when (monotonic seconds), and the settings of that moment."""

    request_id: str
    tenant: Tenant
    arrived_s: float
    settings: IngressUserConfig


@dataclass(frozen=True, slots=True)
class Subject:
    """Which model is asked, and how important the request is."""

    model: ModelService
    standing: Standing


@dataclass(frozen=True, slots=True)
class Prepared:
    """What to generate and how to write it. shows_output is false where only the echoed prompt was asked for."""

    plan: Plan
    format: AnswerFormat
    stream: bool = False
    include_usage: bool = False
    shows_output: bool = True


class Flow(Protocol[BodyT]):
    """One route: the body that it reads, and how that becomes a plan."""

    @property
    def schema(self) -> type[BodyT]: ...

    async def prepare(self, body: BodyT, subject: Subject, asker: Asker) -> Prepared: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every exchange of one ingress shares. clock: monotonic seconds; unix_clock: seconds since the epoch."""

    models: Mapping[str, ModelService]
    settings: Callable[[], IngressUserConfig]
    telemetry: Telemetry
    pool: ScoredPool
    bodies: BodyRoom
    gate: Gate
    clock: Callable[[], float]
    unix_clock: Callable[[], float]

    @property
    def default_model(self) -> ModelService:
        """The first one: for the simple form, which need not name any."""
        return next(iter(self.models.values()))


class Exchange(Response, Generic[BodyT]):
    """A response that does its own work when the server runs it, so that nothing outlives the client."""

    def __init__(self, flow: Flow[BodyT], around: Surroundings) -> None:
        super().__init__()
        self._flow = flow
        self._around = around

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        clock = self._around.clock
        record = RequestRecord(request_id_of(scope), scope["path"], clock, arrived_s=clock())
        sender = HttpSender(send, self._around.settings().bounds.max_stalled_s)
        try:
            async with self._around.gate.passing():
                await self._converse(request, sender, record)
            record.end(200)
        except ClientDisconnected as gone:
            record.end(CLIENT_CLOSED_REQUEST, gone.code)
        except Exception as error:
            await self._fail(error, sender, record)
        finally:
            if record.ended_s is None:
                record.end(CLIENT_CLOSED_REQUEST, "cancelled")
            self._around.telemetry.finish(record, self._around.settings())

    async def _converse(self, request: Request, sender: HttpSender, record: RequestRecord) -> None:
        settings = self._around.settings()
        tenant = tenant_of(request.headers.get("authorization"), settings)
        record.tenant = tenant.name
        asker = Asker(record.request_id, tenant, record.arrived_s, settings)
        bounds = settings.bounds
        with self._around.bodies.place() as place:
            raw = await read_body(request, bounds.max_body_bytes, bounds.max_body_s, place)
            work = self._answer(raw, place, asker, sender, record)
            del raw  # it is the work's now, which lets go of it
            await until_disconnected(request.receive, work)

    async def _answer(
        self, raw: bytes, place: BodyPlace, asker: Asker, sender: HttpSender, record: RequestRecord
    ) -> None:
        prepared = await self._prepared(raw, asker, record)
        del raw  # megabytes, it may be, and the answer may wait for minutes
        place.leave()
        plan = record.plan = prepared.plan
        writer = AnswerWriter(prepared.format, self._around.pool, self._key(plan.standing, asker))
        async with aclosing(generate_all(plan.model.handle, plan.choices)) as events:
            deltas = _deltas(events, record, shows_output=prepared.shows_output)
            async with aclosing(deltas):
                await (_stream if prepared.stream else _whole)(prepared, deltas, writer, sender, record)

    async def _prepared(self, raw: bytes, asker: Asker, record: RequestRecord) -> Prepared:
        body = await self._parsed(raw, asker)
        subject = self._subject(body, asker)
        record.model, record.standing = subject.model.name, subject.standing
        return await self._flow.prepare(body, subject, asker)

    async def _parsed(self, raw: bytes, asker: Asker) -> BodyT:
        """The body. Until it has been read, nobody knows its priority: a large one waits as one without any does."""
        if len(raw) <= MAX_INLINE_BYTES:
            return parse_json(raw, self._flow.schema)
        key = asker.settings.score_policy().key(Stamp(0.0, self._around.unix_clock()))
        return await self._around.pool.run(key, parse_json, raw, self._flow.schema)

    def _key(self, standing: Standing, asker: Asker) -> float:
        stamp = standing.provisional_stamp(self._around.unix_clock())
        return asker.settings.score_policy().key(stamp)

    def _subject(self, body: BodyT, asker: Asker) -> Subject:
        model = self._around.models.get(body.model) if body.model is not None else self._around.default_model
        if model is None:
            raise model_not_found(str(body.model))
        fields = body.settings if isinstance(body, GenerateRequest) else body
        return Subject(model, standing_of(asker.tenant, asker.settings, fields))

    async def _fail(self, error: Exception, sender: HttpSender, record: RequestRecord) -> None:
        shown = to_api_error(error)
        if shown is None:
            self._around.telemetry.report_crash(record, error)
            shown = internal_error(record.request_id)
        record.end(shown.status, shown.code)
        await _tell(shown, sender)


async def _tell(error: ApiError, sender: HttpSender) -> None:
    try:
        await sender.error(error)
    except ClientDisconnected:
        return  # nobody is left to be told


async def _deltas(
    events: AsyncGenerator[ChoiceEvent, None], record: RequestRecord, *, shows_output: bool
) -> AsyncGenerator[ChoiceDelta, None]:
    async for event in events:
        if not shows_output and isinstance(event, ChoiceDelta):
            event = replace(event, text="", token_ids=[], text_offsets=[], logprobs=[])
        record.observe(event)
        if isinstance(event, ChoiceDelta):
            yield event


async def _whole(
    prepared: Prepared,
    deltas: AsyncGenerator[ChoiceDelta, None],
    writer: AnswerWriter,
    sender: HttpSender,
    record: RequestRecord,
) -> None:
    gathering = Gathering()
    async for delta in deltas:
        gathering.add(delta)
    answer = await writer.whole(gathering.whole(), _usage(record), record.e2e_s)
    await sender.document(answer, headers=_started_headers(record))


async def _stream(
    prepared: Prepared,
    deltas: AsyncGenerator[ChoiceDelta, None],
    writer: AnswerWriter,
    sender: HttpSender,
    record: RequestRecord,
) -> None:
    """The status goes out with the first text, so that whatever fails before it keeps a status of its own."""
    gathering = Gathering()
    async for delta in deltas:
        part = gathering.add(delta)
        if not part.is_worth_sending:
            continue
        if not sender.has_started:
            await sender.open_events(_started_headers(record))
        await sender.events(await writer.events(gathering.take(part)))
    if prepared.include_usage:
        await sender.events(as_event(prepared.format.usage_chunk(_usage(record))))
    await sender.close_events()


def _usage(record: RequestRecord) -> Usage:
    return Usage(record.num_prompt_tokens, record.num_output_tokens, record.num_cached_tokens)


def _started_headers(record: RequestRecord) -> dict[str, str]:
    started = record.started
    if started is None:
        return {}
    facts: dict[str, Any] = {
        "x-fastserve-queue-ms": f"{started.queue_s * 1000:.1f}",
        "x-fastserve-key": f"{started.key:.6f}",
        "x-fastserve-replica": started.replica_id,
    }
    return facts
