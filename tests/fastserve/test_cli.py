from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastserve.cli import app
from fastserve.ports import free_port
from tests.fastserve.stub_service import Script, stub_service

ROOT = Path(__file__).parents[2]
MODELS = {"object": "list", "data": [{"id": "tiny", "object": "model"}]}
QUEUE = {
    "object": "list",
    "data": [
        {
            "model": "tiny",
            "num_running": 2,
            "num_waiting": 1,
            "policy": {"alpha": 1.0, "beta": 0.1, "epoch": 0},
            "waiting": [
                {
                    "position": 0,
                    "request_id": "req-1",
                    "lease_id": "req-1/0",
                    "tenant": "lab",
                    "service_class": "urgent",
                    "priority": 10.0,
                    "key": -3.25,
                    "waited_s": 1.5,
                    "num_prompt_tokens": 42,
                    "why": "no slot",
                }
            ],
            "replicas": [],
        }
    ],
}


def run(*arguments: str, typed: str | None = None) -> tuple[int, str]:
    done = CliRunner().invoke(app, arguments, input=typed, env={"COLUMNS": "200"})
    return done.exit_code, done.output


@pytest.mark.parametrize("name", ["serve_config.yaml", "serve_config.gpu.yaml"])
def test_the_shipped_configurations_are_valid(name: str) -> None:
    code, output = run("validate", str(ROOT / name))

    assert code == 0, output


def test_a_wrong_key_is_named_and_ends_with_1(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((ROOT / "serve_config.yaml").read_text().replace("max_num_seqs: 32", "max_num_seq: 32"))

    code, output = run("validate", str(wrong))

    assert code == 1
    assert "applications[0].args.models[0].max_num_seq: unknown key, got 32" in output
    assert "Traceback" not in output


def test_serving_a_model_that_is_not_there_ends_with_the_reason(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    text = (ROOT / "serve_config.yaml").read_text()
    config.write_text(text.replace("embedded:SmolLM2-135M-Instruct", str(tmp_path / "nowhere")))

    code, output = run("serve", str(config))

    assert code == 1
    assert "nowhere" in output
    assert "Traceback" not in output


def test_a_signal_while_a_checkpoint_is_fetched_ends_the_command_at_once(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    text = (ROOT / "serve_config.yaml").read_text()
    config.write_text(text.replace("embedded:SmolLM2-135M-Instruct", "nobody/nothing"))
    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub.settimeout(60)
        environment = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.getsockname()[1]}", "HF_HOME": str(tmp_path)}
        command = [sys.executable, "-m", "fastserve.cli", "serve", str(config)]
        with subprocess.Popen(command, env={**os.environ, **environment, "NO_PROXY": "*"}, cwd=ROOT) as process:
            connection, _ = hub.accept()
            with connection:
                process.send_signal(signal.SIGTERM)

                assert process.wait(60) == -signal.SIGTERM


def test_one_question_prints_the_answer_of_the_first_model() -> None:
    script = Script(documents={"/v1/models": MODELS})
    with stub_service(script) as url:
        code, output = run("chat", "Capital?", "--priority", "5", "--url", url)

    assert (code, output) == (0, "The capital is Paris.\n")
    assert (script.asked[0]["model"], script.asked[0]["priority"]) == ("tiny", 5)


def test_a_conversation_remembers_its_turns() -> None:
    script = Script(documents={"/v1/models": MODELS})
    with stub_service(script) as url:
        code, output = run("chat", "--url", url, typed="Capital?\n\nAnd its river?\n")

    assert code == 0, output
    assert [message["content"] for message in script.asked[1]["messages"]] == [
        "Capital?",
        "The capital is Paris.",
        "And its river?",
    ]


def test_a_turn_that_fails_is_told_and_not_remembered() -> None:
    script = Script(pieces=["half"], error_event="replica died", documents={"/v1/models": MODELS})
    with stub_service(script) as url:
        code, output = run("chat", "--url", url, typed="Capital?\nAgain?\n")

    assert code == 0
    assert "AnswerFailed: replica died" in output
    assert [message["content"] for message in script.asked[1]["messages"]] == ["Again?"]


def test_the_queue_is_shown_in_order_with_the_reason() -> None:
    with stub_service(Script(documents={"/v1/queue": QUEUE})) as url:
        code, output = run("queue", "--url", url)

    assert code == 0, output
    assert "tiny: 2 running, 1 waiting" in output
    for shown in ("req-1", "lab", "urgent", "-3.25", "1.5", "42", "no slot"):
        assert shown in output


def test_no_service_is_said_in_one_line() -> None:
    code, output = run("queue", "--url", f"http://127.0.0.1:{free_port()}")

    assert code == 1
    assert output.startswith("error: http://127.0.0.1")
    assert len(output.splitlines()) == 1


def test_the_embedded_models_are_listed_with_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    code, output = run("models", "list")

    assert code == 0
    assert "embedded:SmolLM2-135M-Instruct" in output
    assert "no" in output


def test_an_unknown_embedded_model_is_refused_with_the_known_ones() -> None:
    code, output = run("models", "install", "gpt-5")

    assert code == 1
    assert "gpt-5: expected one of SmolLM2-135M-Instruct" in output


def test_a_new_key_comes_with_the_line_that_lets_it_in() -> None:
    import yaml

    from deployments.api.auth import tenant_of
    from deployments.user_config import parse_user_config

    first, second = (CliRunner().invoke(app, ["key"]).output.splitlines() for _ in range(2))
    key, line = first[0].removeprefix("key:").strip(), first[1].removeprefix("line:").strip()
    settings = parse_user_config({"tenants": yaml.safe_load(line)})
    assert tenant_of(f"Bearer {key}", settings).name == "NAME"
    assert len(key) > 40
    assert first[0] != second[0]
