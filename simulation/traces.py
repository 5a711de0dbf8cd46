"""Owns reading recorded traffic: which columns each known form has, and what is wrong with a row. Knows nothing of
classes, tenants or rates."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

from simulation.lengths import Size
from simulation.workload import Recorded

_AZURE_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(\.\d+)?([+-]\d\d:\d\d)?", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,9}")
_FOR_EVER_S = 10_000_000_000  # 300 years


class TraceBroken(ValueError):
    """A trace does not say what its form promises. For whoever chose the file; nothing was made up for the row.

    line: 1 is the header. column and value: None where the file as a whole is meant, or nothing stands there.
    """

    def __init__(self, path: Path, line: int, column: str | None, value: str | None, expected: str) -> None:
        place = f"{path}, line {line}" if column is None else f"{path}, line {line}, column {column}"
        super().__init__(f"{place}: expected {expected}, got {'nothing' if value is None else repr(value)}")
        self.path = path
        self.line = line
        self.column = column
        self.value = value
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Trace:
    """What a file recorded, in order of time; the first request is at 0. num_skipped: broken rows left out."""

    requests: tuple[Recorded, ...]
    num_skipped: int

    @property
    def duration_s(self) -> float:
        return self.requests[-1].at_s

    @property
    def rate_per_s(self) -> float:
        """Requests after the first, over the time that they took; 0 where no time passed."""
        return (len(self.requests) - 1) / self.duration_s if self.duration_s > 0 else 0.0

    @property
    def sizes(self) -> tuple[Size, ...]:
        return tuple(each.size for each in self.requests)


@dataclass(frozen=True, slots=True)
class TraceForm:
    """Where a CSV form says when a request came and how long it was. read_time: seconds from any beginning, exactly;
    raises ValueError. time_is: what a time should be, in words."""

    name: str
    time_column: str
    prompt_column: str
    output_column: str
    read_time: Callable[[str], Decimal]
    time_is: str

    @property
    def columns(self) -> tuple[str, str, str]:
        return self.time_column, self.prompt_column, self.output_column


def read_trace(path: Path, *, skip_broken: bool = False, max_requests: int | None = None) -> Trace:
    """The requests of a CSV file whose header is of a known form. Further columns are passed over.

    skip_broken: leave broken rows out and count them. max_requests: read no further than so many.

    Raises:
        TraceBroken: the header is of no known form, no request is left, or a row is broken and not to be skipped.
        OSError: the file cannot be read.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = _Rows(path, skip_broken)
        requests = tuple(itertools.islice(rows.read(_lines(path, file)), max_requests))
    if not requests:
        raise TraceBroken(path, 1, None, None, "at least one request")
    return Trace(requests, rows.num_skipped)


@dataclass(slots=True)
class _Rows:
    """One reading of one file."""

    path: Path
    skip_broken: bool
    num_skipped: int = 0

    def read(self, lines: Iterator[tuple[int, list[str]]]) -> Iterator[Recorded]:
        _, header = next(lines, (1, []))
        form = _form_of(self.path, header)
        first_s: Decimal | None = None
        last_s = Decimal("-Infinity")
        for number, row in lines:
            try:
                time_s, size = self._row(form, number, dict(zip(header, row, strict=False)), last_s)
            except TraceBroken:
                if not self.skip_broken:
                    raise
                self.num_skipped += 1
                continue
            first_s = time_s if first_s is None else first_s
            last_s = time_s
            yield Recorded(float(time_s - first_s), size)

    def _row(self, form: TraceForm, line: int, row: dict[str, str], last_s: Decimal) -> tuple[Decimal, Size]:
        time, prompt, output = (row.get(column) for column in form.columns)
        time_s = self._time(form, line, time)
        if time_s < last_s:
            raise TraceBroken(self.path, line, form.time_column, time, "no time before that of the row above")
        size = Size(
            self._num_tokens(line, form.prompt_column, prompt), self._num_tokens(line, form.output_column, output)
        )
        return time_s, size

    def _time(self, form: TraceForm, line: int, value: str | None) -> Decimal:
        try:
            return form.read_time((value or "").strip())
        except ValueError:
            raise TraceBroken(self.path, line, form.time_column, value, form.time_is) from None

    def _num_tokens(self, line: int, column: str, value: str | None) -> int:
        digits = (value or "").strip()
        if _COUNT.fullmatch(digits) is None or int(digits) < 1:
            raise TraceBroken(self.path, line, column, value, "a whole number of at least 1")
        return int(digits)


def _lines(path: Path, file: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of its line; empty lines are passed over."""
    reader = csv.reader(file)
    try:
        yield from ((reader.line_num, row) for row in reader if row)
    except csv.Error as error:
        raise TraceBroken(path, reader.line_num, None, str(error), "comma-separated values") from None


def _azure_time(text: str) -> Decimal:
    """`2023-11-16 18:15:46.6805900`: more digits than `datetime` keeps; UTC unless an offset stands there."""
    match = _AZURE_TIME.fullmatch(text)
    if match is None:
        raise ValueError(text)
    whole, fraction, offset = match.groups()
    stamp = datetime.fromisoformat(whole + (offset or "+00:00"))
    return Decimal(int(stamp.timestamp())) + Decimal(f"0{fraction or ''}")


def _seconds(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(text) from None
    if not (number.is_finite() and 0 <= number < _FOR_EVER_S):
        raise ValueError(text)
    return number


#: https://github.com/Azure/AzurePublicDataset
AZURE = TraceForm(
    *("Azure LLM inference", "TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    read_time=_azure_time,
    time_is="a time like 2023-11-16 18:15:46.6805900",
)
#: https://github.com/HPMLL/BurstGPT. A request that failed has 0 response tokens, and counts as broken.
BURST_GPT = TraceForm(
    *("BurstGPT", "Timestamp", "Request tokens", "Response tokens"),
    read_time=_seconds,
    time_is="a number of seconds of at least 0",
)
FORMS = (AZURE, BURST_GPT)


def _form_of(path: Path, header: Sequence[str]) -> TraceForm:
    for form in FORMS:
        if set(form.columns) <= set(header):
            return form
    known = "; ".join(f"{', '.join(form.columns)} ({form.name})" for form in FORMS)
    raise TraceBroken(path, 1, None, ",".join(header) or None, f"a header with the columns {known}")
