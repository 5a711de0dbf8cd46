"""What the `llm` command must get, told of the service in its own file of models."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conformance.clients.target import ANSWER, BASE_URL, MODEL

QUESTION = "What is the capital of France?"
CHAT = {"model_id": "chat", "model_name": MODEL, "api_base": BASE_URL, "supports_schema": True, "supports_tools": True}
TEXT = {"model_id": "text", "model_name": MODEL, "api_base": BASE_URL, "completion": True}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "extra-openai-models.yaml").write_text(yaml.safe_dump([CHAT, TEXT]))
    return tmp_path


def llm(folder: Path, *arguments: str) -> str:
    """What the command prints, without its last line's end."""
    done = subprocess.run(
        ["llm", *arguments],
        env={**os.environ, "LLM_USER_PATH": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


def test_it_lists_the_models(folder: Path) -> None:
    listed = llm(folder, "models", "list")
    assert "OpenAI Chat: chat" in listed
    assert "OpenAI Completion: text" in listed


@pytest.mark.parametrize("streaming", [[], ["--no-stream"]], ids=["streaming", "whole"])
def test_a_question_is_answered(folder: Path, streaming: list[str]) -> None:
    assert llm(folder, "prompt", "-m", "chat", "-o", "temperature", "0", *streaming, QUESTION) == ANSWER


@pytest.mark.parametrize("streaming", [[], ["--no-stream"]], ids=["streaming", "whole"])
def test_a_text_goes_on(folder: Path, streaming: list[str]) -> None:
    options = ("-m", "text", "-o", "temperature", "0", "-o", "max_tokens", "16")
    assert "Paris" in llm(folder, "prompt", *options, *streaming, "The capital of France is")


def test_a_conversation_goes_on(folder: Path) -> None:
    llm(folder, "prompt", "-m", "chat", "-o", "temperature", "0", QUESTION)
    assert llm(folder, "prompt", "--continue", "-o", "temperature", "0", "-o", "max_tokens", "32", "And of Italy?")


def test_a_system_prompt_is_taken(folder: Path) -> None:
    assert llm(folder, "prompt", "-m", "chat", "-o", "max_tokens", "32", "--system", "You speak French.", "Hello")


def test_a_schema_is_kept(folder: Path) -> None:
    options = ("-m", "chat", "-o", "temperature", "0", "-o", "max_tokens", "128")
    answer = llm(folder, "prompt", *options, "--schema", "name, age int", "Invent a dog with a short name")
    dog = json.loads(answer)
    assert isinstance(dog["name"], str)
    assert isinstance(dog["age"], int)


def test_the_log_has_the_tokens_of_a_stream(folder: Path) -> None:
    llm(folder, "prompt", "-m", "chat", "-o", "temperature", "0", QUESTION)
    [logged] = json.loads(llm(folder, "logs", "--json"))
    assert logged["input_tokens"] > 0
    assert logged["output_tokens"] > 3
