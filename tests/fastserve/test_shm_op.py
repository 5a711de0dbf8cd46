from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fastserve.python_process import PythonProcessError
from fastserve.shm_op import OpRecord, missing_tool, prebuild


def record_in(folder: Path) -> OpRecord:
    return OpRecord(folder / "record")


def compile_into(folder: Path) -> None:
    library = folder.parent / "op.so"
    library.write_bytes(b"")
    folder.write_text(str(library))


def test_a_second_call_does_not_compile(tmp_path: Path) -> None:
    assert prebuild(record_in(tmp_path), build=compile_into) is None

    def no_build(file: Path) -> None:
        raise AssertionError("compiled again")

    assert prebuild(record_in(tmp_path), build=no_build) is None


def test_a_library_that_was_deleted_is_compiled_again(tmp_path: Path) -> None:
    prebuild(record_in(tmp_path), build=compile_into)
    (tmp_path / "op.so").unlink()

    assert not record_in(tmp_path).is_built()
    assert prebuild(record_in(tmp_path), build=compile_into) is None
    assert record_in(tmp_path).is_built()


def test_two_at_once_compile_once(tmp_path: Path) -> None:
    compiled: list[Path] = []
    both_here = threading.Barrier(2)

    def build(file: Path) -> None:
        compiled.append(file)
        compile_into(file)

    def ask() -> None:
        both_here.wait(10)
        prebuild(record_in(tmp_path), build=build)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(compiled) == 1


def test_a_missing_compiler_is_one_line_that_says_how_to_mend_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")

    problem = prebuild(record_in(tmp_path), build=compile_into)

    assert problem == missing_tool()
    assert problem is not None
    assert "no-such-compiler" in problem
    assert "gloo" in problem
    assert "apt-get install g++" in problem
    assert "\n" not in problem


def test_a_failed_compilation_is_a_warning_and_not_an_end(tmp_path: Path) -> None:
    def fail(file: Path) -> None:
        raise PythonProcessError(["-m", "build"], 1, "ninja: build stopped")

    problem = prebuild(record_in(tmp_path), build=fail)

    assert problem is not None
    assert "ninja: build stopped" in problem
    assert not record_in(tmp_path).is_built()
