"""Nothing that comes with a checkpoint is run: neither its Python files nor what its chat template reaches for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.checkpoint import CheckpointError, read_config
from engine.tokenizer import TemplateRefused, Tokenizer
from tests.engine.tokenizers import as_checkpoint_tokenizer

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer, a configuration, and a module that says when it is run."""
    folder = tmp_path / "model"
    as_checkpoint_tokenizer().save_pretrained(folder)
    ran = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    (folder / "evil.py").write_text(f"{ran}class Evil:\n    pass\n")
    add(folder / "config.json", {"model_type": "llama"})
    return folder


def add(path: Path, facts: dict[str, object]) -> None:
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | facts))


def test_code_that_a_configuration_names_is_not_run_where_the_architecture_is_known(folder: Path) -> None:
    add(folder / "config.json", {"auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}})
    assert read_config(folder).model_type == "llama"
    assert not (folder.parent / "ran").exists()


def test_code_that_a_configuration_names_is_refused_where_the_architecture_is_not_known(folder: Path) -> None:
    add(folder / "config.json", {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}})
    with pytest.raises(CheckpointError, match=r"config\.json cannot be served"):
        read_config(folder)
    assert not (folder.parent / "ran").exists()


def test_code_that_a_tokenizer_names_is_not_run(folder: Path) -> None:
    add(folder / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}})
    assert Tokenizer.load(folder).encode("hello")
    assert not (folder.parent / "ran").exists()


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ messages.append('more') }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
        "{{ raise_exception('no') }}",
    ],
)
def test_a_template_that_reaches_out_of_its_sandbox_is_refused(template: str) -> None:
    with pytest.raises(TemplateRefused):
        Tokenizer(as_checkpoint_tokenizer(chat_template=template)).encode_chat(MESSAGES)


@pytest.mark.parametrize("template", ["{% include 'config.json' %}", "{% import 'os' as os %}{{ os.environ }}"])
def test_a_template_opens_no_file(template: str) -> None:
    with pytest.raises((TemplateRefused, TypeError)):
        Tokenizer(as_checkpoint_tokenizer(chat_template=template)).encode_chat(MESSAGES)
