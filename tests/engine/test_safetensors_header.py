"""Headers of safetensors files: what is sound is read, and whatever is not is an error in words, never a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from engine.checkpoint import CheckpointError, load_model, weight_bytes
from engine.safetensors_header import MAX_HEADER_BYTES, HeaderError, read_header

GOOD = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
SOUND = save({"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16)}, {"format": "pt"})
A, B = GOOD["a"], {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}


def file_of(header: object, num_data_bytes: int = 24) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(num_data_bytes)


def refusal(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(HeaderError) as refused:
        read_header(path)
    return str(refused.value)


def test_a_sound_file_says_its_tensors_in_the_order_of_their_data(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(SOUND)
    found = {tensor.name: (tensor.dtype, tensor.num_elements) for tensor in read_header(path)}
    assert found == {"a": ("F32", 6), "b": ("BF16", 4)}


def test_scalars_and_empty_tensors_are_sound(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"scalar": torch.tensor(1.0), "empty": torch.zeros(0, 5)}))
    assert sorted(tensor.num_elements for tensor in read_header(path)) == [0, 1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "0 bytes are fewer"),
        (b"1234567", "7 bytes are fewer"),
        ((2**63).to_bytes(8, "little") + b"{}", "are fewer than its header should have"),
        (file_of(b"{"), "no JSON"),
        (file_of(b"\xff"), "no JSON"),
        (file_of(b"[" * 100_000), "no JSON"),
        (file_of(b"1" * 10_000), "no JSON"),
        (file_of([]), "no JSON object"),
        (file_of(b'{"a": 1, "a": 2}'), "stands twice"),
        (file_of({"__metadata__": {"a": 1}}), "no object of texts"),
        (file_of({"a": 1}), "data_offsets, dtype, shape alone"),
        (file_of({"a": {**A, "more": 1}}), "alone"),
        (file_of({"a": {**A, "dtype": "F33"}}), "unknown dtype 'F33'"),
        (file_of({"a": {**A, "dtype": ["F32"]}}), "unknown dtype"),
        (file_of({"a": {**A, "shape": [-2, -3]}}), "has the shape"),
        (file_of({"a": {**A, "shape": [True, 6]}}), "has the shape"),
        (file_of({"a": {**A, "shape": "6"}}), "has the shape"),
        (file_of({"a": {**A, "shape": [2.0, 3]}}), "has the shape"),
        (file_of({"a": {**A, "shape": [10**18] * 10_000}}), "24 bytes"),
        (file_of({"a": {**A, "shape": [7]}}), "has 24 bytes"),
        (file_of({"a": {**A, "data_offsets": [0, 28]}}), "outside of the file"),
        (file_of({"a": {**A, "data_offsets": [24, 0]}}), "outside of the file"),
        (file_of({"a": {**A, "data_offsets": [-24, 0]}}), "outside of the file"),
        (file_of({"a": {**A, "data_offsets": [0]}}), "outside of the file"),
        (file_of({"a": A, "b": {**A, "data_offsets": [12, 36]}}, 36), "overlaps"),
        (file_of({"a": A, "b": {**B, "data_offsets": [28, 36]}}, 36), "hole"),
        (file_of({"a": A}, 25), "1 bytes after its last tensor"),
        (file_of({"evil\n\x1b[31m": {**A, "shape": [7]}}), r"'evil\n\x1b[31m'"),
    ],
)
def test_what_the_format_does_not_allow_is_refused_in_words(tmp_path: Path, content: bytes, said: str) -> None:
    message = refusal(tmp_path, content)
    assert said in message
    assert message.isprintable()


def test_a_header_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as opened:
        opened.write((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
        opened.truncate(MAX_HEADER_BYTES + 100)  # a hole: it takes no room on the disk
    with pytest.raises(HeaderError, match="at most 100000000"):
        read_header(path)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HeaderError, match="no plain file"):
        read_header(tmp_path)


def test_a_wrong_header_is_found_before_anything_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM

    def mapped(*_: Any, **__: Any) -> None:
        raise AssertionError("it was mapped")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", mapped)
    (tmp_path / "model.safetensors").write_bytes(file_of({"a": {**A, "shape": [7]}}))
    with pytest.raises(CheckpointError, match="no sound safetensors file"):
        weight_bytes(tmp_path, torch.float32)
    with pytest.raises(CheckpointError, match="no sound safetensors file"):
        load_model(tmp_path, torch.float32, "sdpa")


changes = st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=6)
lengths = st.integers(0, len(SOUND) + 8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(changes, lengths)
def test_a_corrupted_file_is_read_or_refused_and_never_believed_where_the_format_forbids_it(
    tmp_path: Path, changed: list[tuple[int, int]], length: int
) -> None:
    content = bytearray(SOUND)
    for place, value in changed:
        content[place] = value
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(content[:length]))
    try:
        read_header(path)
    except HeaderError:
        return
    try:
        with safe_open(path, framework="pt"):
            pass
    except SafetensorError as error:  # what we take, the library takes
        pytest.fail(f"the library refuses it: {error}")
