"""Owns reading the header of a safetensors file, and that everything in it is true. Maps nothing and reads no tensor.

The format: 8 bytes with the header's length, the header as a JSON object, and then the tensors one after another.
https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000  # the format's own bound
METADATA = "__metadata__"
_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
_FACTS = {"dtype", "shape", "data_offsets"}


class HeaderError(ValueError):
    """A header that is not what the format says; the message says what is wrong. Caught where the file is named."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """dtype: as the format names it, such as `BF16`. begin, end: bytes after the header."""

    name: str
    dtype: str
    num_elements: int
    begin: int
    end: int


def read_header(path: Path) -> list[StoredTensor]:
    """The file's tensors in the order of their data.

    Raises:
        HeaderError: the file is not what the format says, in whatever way.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise HeaderError("it is no plain file")
    num_bytes = path.stat().st_size
    with path.open("rb") as opened:
        length = int.from_bytes(opened.read(LENGTH_BYTES), "little")
        num_data_bytes = num_bytes - LENGTH_BYTES - length
        if num_bytes < LENGTH_BYTES or num_data_bytes < 0:
            raise HeaderError(f"its {num_bytes} bytes are fewer than its header should have")
        if length > MAX_HEADER_BYTES:
            raise HeaderError(f"its header has {length} bytes, at most {MAX_HEADER_BYTES} may be")
        header = _parsed(opened.read(length))
    tensors = sorted(_tensors(header, num_data_bytes), key=lambda tensor: (tensor.begin, tensor.end))
    _check_without_gaps(tensors, num_data_bytes)
    return tensors


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        header = json.loads(raw.decode(), object_pairs_hook=_unique)
    except HeaderError:
        raise
    except (ValueError, RecursionError) as error:
        raise HeaderError(f"its header is no JSON ({type(error).__name__})") from None
    if not isinstance(header, dict):
        raise HeaderError("its header is no JSON object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise HeaderError("a name stands twice in its header")
    return found


def _tensors(header: dict[str, Any], num_data_bytes: int) -> Iterator[StoredTensor]:
    for name, facts in header.items():
        if name == METADATA:
            if not isinstance(facts, dict) or not all(isinstance(value, str) for value in facts.values()):
                raise HeaderError(f"{METADATA} is no object of texts")
        elif not isinstance(facts, dict) or facts.keys() != _FACTS:
            raise HeaderError(f"tensor {_shown(name)} has no {', '.join(sorted(_FACTS))} alone")
        else:
            yield _tensor(name, facts, num_data_bytes)


def _tensor(name: str, facts: dict[str, Any], num_data_bytes: int) -> StoredTensor:
    dtype, shape, offsets = facts["dtype"], facts["shape"], facts["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise HeaderError(f"tensor {_shown(name)} has the unknown dtype {_shown(dtype)}")
    if not _are_counts(shape):
        raise HeaderError(f"tensor {_shown(name)} has the shape {_shown(shape)}")
    if not _are_counts(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= num_data_bytes:
        raise HeaderError(f"tensor {_shown(name)} lies outside of the file, at {_shown(offsets)} of {num_data_bytes}")
    begin, end = offsets
    num_elements = _product(shape, limit=8 * num_data_bytes)
    if num_elements * _BITS[dtype] != 8 * (end - begin):
        raise HeaderError(f"tensor {_shown(name)} of {dtype} and shape {_shown(shape)} has {end - begin} bytes")
    return StoredTensor(name, dtype, num_elements, begin, end)


def _are_counts(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _product(shape: list[int], limit: int) -> int:
    """As far as it matters: one that is above `limit` is above it, however large."""
    if 0 in shape:
        return 0
    product = 1
    for size in shape:
        product *= size
        if product > limit:
            return limit + 1
    return product


def _check_without_gaps(tensors: list[StoredTensor], num_data_bytes: int) -> None:
    end = 0
    for tensor in tensors:
        if tensor.begin != end:
            fault = "overlaps what is before it" if tensor.begin < end else "leaves a hole before it"
            raise HeaderError(f"tensor {_shown(tensor.name)} {fault}")
        end = tensor.end
    if end != num_data_bytes:
        raise HeaderError(f"{num_data_bytes - end} bytes after its last tensor belong to none")


def _shown(value: object) -> str:
    """Escaped, and no longer than can be read."""
    text = ascii(value if not isinstance(value, list) else value[:8])
    return text if len(text) <= 80 else f"{text[:77]}..."
