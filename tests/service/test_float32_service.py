"""In float32 an answer is the same in any company: transformers' own, token for token, whatever is sent beside it."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import pytest

from tests.service.bad_input_checks import check_bad_requests_are_refused_and_disturb_nobody
from tests.service.conftest import MODEL
from tests.service.running import ROOT, Service

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(900)]

NUM_TOKENS = 24
PROMPTS = [
    "The capital of France is",
    "Once upon a time",
    "def fibonacci(n):",
    "The quick brown fox",
    "In 1969, humans first",
    "Water boils at",
    "import numpy as np\n",
    "Dear Sir or Madam,",
    "The three primary colours are",
    "1, 2, 3, 4,",
    "To be, or not to be,",
    "SELECT name FROM",
    "The mitochondria is",
    "Roses are red,",
    "A recipe for bread:",
    "E = mc",
    "Chapter One\n\n",
    "The largest planet is",
    "Bonjour, je m'appelle",
    "🙂 means",
]
REFERENCE = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from engine.checkpoint import resolve
source, num_tokens, prompts = json.load(sys.stdin)
folder = resolve(source)
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
texts = []
for prompt in prompts:
    inputs = tokenizer(prompt, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=num_tokens, do_sample=False)
    texts.append(tokenizer.decode(output[0][inputs.input_ids.shape[1]:], skip_special_tokens=True))
print(json.dumps(texts))
"""


def test_twenty_greedy_answers_equal_those_of_transformers(float32_service: Service) -> None:
    body = {"model": MODEL, "prompt": PROMPTS, "max_tokens": NUM_TOKENS, "temperature": 0}

    answer = httpx.post(f"{float32_service.base_url}/v1/completions", json=body, timeout=300).raise_for_status().json()

    texts = [choice["text"] for choice in sorted(answer["choices"], key=lambda choice: choice["index"])]
    assert texts == _reference_texts()


async def test_bad_requests_are_refused_and_disturb_neither_streams_nor_memory(float32_service: Service) -> None:
    await check_bad_requests_are_refused_and_disturb_nobody(float32_service, MODEL)


def _reference_texts() -> list[str]:
    """Computed in a process of its own, so that this one never loads torch."""
    finished = subprocess.run(
        [sys.executable, "-c", REFERENCE],
        input=json.dumps([f"embedded:{MODEL}", NUM_TOKENS, PROMPTS]),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=600,
    )
    texts: list[str] = json.loads(finished.stdout.splitlines()[-1])
    return texts
