"""The whole file: what Ray Serve reads, what we read, and every key that nobody reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.config_errors import ConfigError
from deployments.serve_config import ValidatedServeConfig, load_serve_config

GOOD = """
proxy_location: HeadOnly
http_options: {host: 127.0.0.1, port: 8123}
applications:
  - name: fastserve
    route_prefix: /
    import_path: deployments.app:build
    args:
      models:
        - {name: small, source: "embedded:SmolLM2-135M-Instruct"}
    deployments:
      - name: Ingress
        num_replicas: 2
        user_config: {alpha: 2.0, tenants: {key: {name: a}}}
      - name: small
        autoscaling_config: {min_replicas: 0, max_replicas: 2, target_ongoing_requests: 8}
        ray_actor_options: {num_cpus: 0.1}
"""


def _load(folder: Path, text: str) -> ValidatedServeConfig:
    path = folder / "serve_config.yaml"
    path.write_text(text)
    return load_serve_config(path)


def _refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        _load(folder, text)
    return str(refused.value)


def test_a_good_file_gives_its_settings(tmp_path: Path) -> None:
    config = _load(tmp_path, GOOD)
    assert config.app_name == "fastserve"
    assert [model.name for model in config.serving.models] == ["small"]
    assert config.user_config.alpha == 2.0
    assert config.user_config.tenants["key"].name == "a"
    assert (config.host, config.port) == ("127.0.0.1", 8123)


def test_a_file_without_deployments_means_every_default(tmp_path: Path) -> None:
    config = _load(tmp_path, GOOD.split("    deployments:")[0])
    assert config.user_config.alpha == 1.0


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("source:", "sauce:", "applications[0].args.models[0].sauce: unknown key"),
        ("alpha: 2.0", "alpah: 2.0", "applications[0].deployments[0].user_config.alpah: unknown key, got 2.0"),
        (
            "alpha: 2.0",
            "alpha: -2.0",
            "deployments[0].user_config.alpha: got -2.0; expected at least 0",
        ),
        ("num_replicas: 2", "num_replica: 2", "applications[0].deployments[0].num_replica: unknown key, got 2"),
        ("min_replicas: 0", "min_replica: 0", "deployments[1].autoscaling_config.min_replica: unknown key, got 0"),
        ("num_cpus: 0.1", "num_cpu: 0.1", "deployments[1].ray_actor_options.num_cpu: unknown key"),
        ("port: 8123", "prot: 8123", "http_options.prot: unknown key, got 8123; expected port"),
        ("port: 8123", "port: many", "http_options.port: got 'many'; expected a whole number"),
        ("num_cpus: 0.1", "num_cpus: -1", "applications[0].deployments[1].ray_actor_options"),
        ("proxy_location", "proxy_locaton", "proxy_locaton: unknown key"),
        ("- name: small", "- name: smal", "deployments[1].name: got 'smal'; expected one of Ingress, small"),
        ("ray_actor_options", "user_config", "deployments[1].user_config: got {'num_cpus': 0.1}; expected none"),
        (
            "deployments.app:build",
            "other:app",
            "import_path: got ['other:app']; expected deployments.app:build",
        ),
        ("    route_prefix: /", "    name: again", "key 'name' stands twice"),
        ("applications:", "applications: [", "expected valid YAML"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path: Path, good: str, bad: str, said: str) -> None:
    assert good in GOOD
    assert said in _refusal(tmp_path, GOOD.replace(good, bad))


@pytest.mark.parametrize("text", ["", "just words", "[]"])
def test_a_file_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    assert "an object with a key 'applications'" in _refusal(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_serve_config(tmp_path / "nowhere.yaml")


def test_faults_in_several_places_are_told_together(tmp_path: Path) -> None:
    message = _refusal(
        tmp_path, GOOD.replace("source:", "sauce:").replace("alpha:", "alpah:").replace("port:", "prot:")
    )
    assert all(name in message for name in ("sauce", "alpah", "prot"))
