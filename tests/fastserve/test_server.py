from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deployments.serve_config import load_serve_config
from engine.checkpoint import CheckpointError
from fastserve import ModelDescription, ModelServer, load_model
from fastserve.errors import ServerFailed, ServerNotRunning
from fastserve.server import serve_config

FAKE = ModelDescription("tiny", "embedded:none", Path("/nowhere"))


def test_what_a_server_starts_is_a_configuration_file_that_validates(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    document = serve_config(FAKE, 8123, 2, 1.5, 0.2, {"tensor_parallel_size": 2, "dtype": "float32"})
    path.write_text(yaml.safe_dump(document))
    config = load_serve_config(path)

    assert (config.host, config.port) == ("127.0.0.1", 8123)
    assert (config.user_config.alpha, config.user_config.beta) == (1.5, 0.2)
    assert config.serving.models[0].tensor_parallel_size == 2


def test_a_server_that_was_not_started_takes_no_task() -> None:
    with pytest.raises(ServerNotRunning):
        ModelServer(FAKE).submit("Hi")


def test_stopping_a_server_that_never_ran_does_nothing() -> None:
    ModelServer(FAKE).stop()


@pytest.mark.slow
def test_a_wrong_option_fails_the_start_and_is_named() -> None:
    with pytest.raises(ServerFailed, match=r"models\[0\]\.tensor_parallel: unknown key"):
        ModelServer(FAKE, tensor_parallel=2).start(timeout=60)


def test_a_folder_is_a_model_under_its_own_name(tmp_path: Path) -> None:
    folder = tmp_path / "my model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")

    assert load_model(str(folder)) == ModelDescription("my-model", str(folder), folder)


def test_a_model_that_does_not_exist_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        load_model(str(tmp_path / "nowhere"))
