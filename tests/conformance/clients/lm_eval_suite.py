"""What lm-eval's `local-completions` must get: likelihoods of a given text, and texts until a stop."""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.clients.target import BASE_URL, MODEL, TOKENIZER

TASKS = Path(__file__).parent / "lm_eval_tasks"
AS_TOKENS = "tokenized_requests=True"
AS_TEXT = "tokenized_requests=False"
NAMES = ["fastserve_capitals", "fastserve_counting", "fastserve_english", "fastserve_jumble"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lm-eval")


@cache
def results(folder: Path, requests: str) -> dict[str, dict[str, Any]]:
    """Each task's results, of one run of the command over all of them."""
    output = folder / requests
    where = f"model={MODEL},base_url={BASE_URL}/completions,tokenizer={TOKENIZER},tokenizer_backend=huggingface"
    command = ["lm_eval", "run", "--model", "local-completions", "--tasks", ",".join(NAMES), "--include_path", "."]
    options = [
        "--model_args",
        f"{where},num_concurrent=4,max_retries=1,max_length=1024,{requests}",
        "--output_path",
        str(output),
    ]
    done = subprocess.run(
        [*command, *options],
        cwd=TASKS,
        env={**os.environ, "HF_DATASETS_CACHE": str(folder / "datasets"), "OPENAI_API_KEY": "unused"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    [file] = output.rglob("results_*.json")
    found: dict[str, dict[str, Any]] = json.loads(file.read_text())["results"]
    return found


@pytest.mark.parametrize("requests", [AS_TOKENS, AS_TEXT])
def test_the_right_ending_is_the_likeliest(folder: Path, requests: str) -> None:
    assert results(folder, requests)["fastserve_capitals"]["acc,none"] >= 0.75


@pytest.mark.parametrize("requests", [AS_TOKENS, AS_TEXT])
def test_english_is_likelier_than_the_same_words_backwards(folder: Path, requests: str) -> None:
    english = results(folder, requests)["fastserve_english"]["bits_per_byte,none"]
    jumble = results(folder, requests)["fastserve_jumble"]["bits_per_byte,none"]
    assert 0.2 < english < 1.5 < jumble


@pytest.mark.parametrize("requests", [AS_TOKENS, AS_TEXT])
def test_a_text_goes_on_until_the_stop(folder: Path, requests: str) -> None:
    assert results(folder, requests)["fastserve_counting"]["exact_match,stripped"] >= 0.75
