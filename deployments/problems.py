"""Owns the words for what pydantic found wrong: which key, which value, what was expected. Knows no file, no HTTP."""

from __future__ import annotations

import difflib
import reprlib
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

MAX_VALUE_CHARS = 80
MAX_NAME_CHARS = 100  # of a key, in a path; no key of ours is nearly as long
_MAX_VALUE_DEPTH = 6
_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "a string",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_BOUNDS = {
    "ge": "at least {:g}",
    "gt": "more than {:g}",
    "le": "at most {:g}",
    "lt": "less than {:g}",
    "min_length": "at least {:g} of them",
    "max_length": "at most {:g} of them",
    "pattern": "text that matches {}",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `path` is dotted, list places in brackets, and empty for the whole document."""

    path: str
    kind: Literal["unknown", "missing", "invalid"]
    value: object
    expected: str

    def __str__(self) -> str:
        place = self.path or "the document"
        if self.kind == "missing":
            return f"{place}: missing; expected {self.expected}"
        fault = "unknown key, " if self.kind == "unknown" else ""
        return f"{place}: {fault}got {shortened(self.value)}; expected {self.expected}"


def shortened(value: object) -> str:
    """The value as one short line of text. Safe for values of any size and depth."""
    text = _SHORT.repr(value)
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 3] + "..."


@dataclass(frozen=True, slots=True)
class Withheld:
    """Stands for a value that no message may show."""

    kind: str

    def __repr__(self) -> str:
        return f"{self.kind} (not shown)"


def without_insides(value: object) -> object:
    """The value, or only its kind where something secret may stand inside."""
    if isinstance(value, dict | list) and value:
        return Withheld("an object" if isinstance(value, dict) else "a list")
    return value


def _short_repr() -> reprlib.Repr:
    """A repr that looks at no more of a value than can be shown."""
    short = reprlib.Repr()
    short.maxlevel = _MAX_VALUE_DEPTH
    short.maxlist = short.maxdict = short.maxtuple = MAX_VALUE_CHARS // 4
    short.maxstring = short.maxlong = short.maxother = 2 * MAX_VALUE_CHARS  # cut at the end, by whoever asked
    return short


_SHORT = _short_repr()


def joined_path(location: Sequence[int | str], prefix: str = "") -> str:
    """`("models", 0, "name")` as `models[0].name`."""
    path = prefix
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            name = step if len(step) <= MAX_NAME_CHARS else f"{step[:MAX_NAME_CHARS]}..."
            path += f".{name}" if path else name
    return path


Shown = Callable[[tuple[int | str, ...], object], tuple[tuple[int | str, ...], object]]


def everything(location: tuple[int | str, ...], value: object) -> tuple[tuple[int | str, ...], object]:
    """Shows location and value as they are: nothing in them is secret."""
    return location, value


def insides_withheld(location: tuple[int | str, ...], value: object) -> tuple[tuple[int | str, ...], object]:
    """Shows single values only: an object or a list may hold a secret."""
    return location, without_insides(value)


def problems_of(
    error: ValidationError, model: type[BaseModel], prefix: str = "", shown: Shown = everything
) -> list[Problem]:
    """Every problem of a failed validation against `model`, in document order.

    shown: what of a location and its value may stand in a message.
    """
    return [_problem(details, model, prefix, shown) for details in error.errors(include_url=False)]


def first_problem_of(error: ValidationError, model: type[BaseModel]) -> Problem:
    """The one that comes first in the document. There may be as many as a document has bytes, and each costs time."""
    return _problem(error.errors(include_url=False)[0], model, "", everything)


def unknown_key(path: str, key: str, value: object, known: Sequence[str]) -> Problem:
    """The problem of a key that nothing reads; the likeliest one is named first."""
    close = difflib.get_close_matches(key[:MAX_NAME_CHARS], known, n=1)
    others = sorted(set(known) - set(close))
    expected = f"{close[0]} (or one of {', '.join(others)})" if close else f"one of {', '.join(others)}"
    return Problem(path, "unknown", value, expected)


def _problem(details: ErrorDetails, model: type[BaseModel], prefix: str, shown: Shown) -> Problem:
    location = details["loc"]
    shown_location, value = shown(location, details["input"])
    path = joined_path(shown_location, prefix)
    if details["type"] == "extra_forbidden":
        known = _keys_at(model, location[:-1])
        return unknown_key(path, str(location[-1]), value, known)
    if details["type"] == "missing":
        return Problem(path, "missing", None, "a value")
    return Problem(path, "invalid", value, _expected(details))


def _expected(details: ErrorDetails) -> str:
    context: dict[str, Any] = details.get("ctx", {})
    if details["type"] == "string_too_short":
        return "some text"
    for bound, words in _BOUNDS.items():
        if bound in context:
            return words.format(context[bound])
    if details["type"] == "literal_error":
        return f"one of {context['expected']}"
    if details["type"] == "value_error":
        return str(context["error"])
    return _EXPECTED.get(details["type"], details["msg"])


def _keys_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys that the model at `location` below `model` reads."""
    annotation: Any = model
    for step in location:
        annotation = _below(annotation, step)
    found = model_in(annotation)
    return [] if found is None else [field.alias or name for name, field in found.model_fields.items()]


def _below(annotation: Any, step: int | str) -> Any:
    found = model_in(annotation)
    if found is not None and isinstance(step, str) and step in found.model_fields:
        return found.model_fields[step].annotation
    return annotation


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The first pydantic model named in a type such as `dict[str, Model]` or `list[Model] | None`."""
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    if get_origin(annotation) in (Union, types.UnionType) or get_args(annotation):
        return next((found for arg in get_args(annotation) if (found := model_in(arg)) is not None), None)
    return None
