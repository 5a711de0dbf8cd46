"""The whole file: what Ray Serve reads, what we read, and every key that nobody reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.config_errors import ConfigError
from deployments.serve_config import ValidatedServeConfig, load_serve_config
from deployments.serve_fields import REPLICA_BUNDLE_CPUS

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
    ("good", "changed", "expected"),
    [
        ("alpha: 2.0", "alpha: 2.0", 1024 + 2 * 32),
        ("alpha: 2.0", "bounds: {max_waiting: 9000}", 9000 + 2 * 32),
        ("max_replicas: 2", "max_replicas: 5", 1024 + 5 * 32),
        ("- {name: small,", "- {name: other, max_num_seqs: 8, source: x}\n        - {name: small,", 2048 + 8 + 2 * 32),
        ("autoscaling_config: {min_replicas: 0, max_replicas: 2, target_ongoing", "num_replicas: 3 #", 1024 + 3 * 32),
        ("autoscaling_config: {min_replicas: 0, max_replicas: 2, target_ongoing", "num_replicas: auto #", 1024 + 3200),
    ],
)
def test_as_many_requests_may_be_open_as_all_queues_and_all_slots_hold(
    tmp_path: Path, good: str, changed: str, expected: int
) -> None:
    assert good in GOOD
    assert _load(tmp_path, GOOD.replace(good, changed)).max_open_requests == expected


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
        ("ray_actor_options", "user_config", "deployments[1].user_config: got an object (not shown); expected none"),
        (
            "deployments.app:build",
            "other:app",
            "import_path: got ['other:app']; expected deployments.app:build",
        ),
        ("    route_prefix: /", "    name: again", "got 'a key stands twice in line 6'; expected valid YAML"),
        ("applications:", "applications: [", "expected valid YAML"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path: Path, good: str, bad: str, said: str) -> None:
    assert good in GOOD
    assert said in _refusal(tmp_path, GOOD.replace(good, bad))


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("port: 8123", "port: 99999", "http_options.port: got 99999; expected a port from 1 to 65535"),
        ("port: 8123", "port: -1", "http_options.port: got -1; expected a port from 1 to 65535"),
        (
            "min_replicas: 0",
            "min_replicas: 5",
            "deployments[1].autoscaling_config: got an object (not shown); expected",
        ),
        ("min_replicas: 0", "min_replicas: -1", "deployments[1].autoscaling_config.min_replicas: got -1; expected at"),
        ("num_cpus: 0.1", "num_cpus: 1", "deployments[1].ray_actor_options.num_cpus: got 1; expected at most 0.1"),
        ("num_cpus: 0.1", "runtime_env: {}", "deployments[1].ray_actor_options.num_cpus: missing; expected at most"),
        ("num_cpus: 0.1", "num_cpus: 0.1, num_gpus: 1", "ray_actor_options.num_gpus: got 1; expected none"),
        (
            "name: small\n",
            "name: small\n        max_ongoing_requests: 5\n",
            "[1].max_ongoing_requests: got 5; expected",
        ),
        ("num_replicas: 2", "max_ongoing_requests: 5", "deployments[0].max_ongoing_requests: got 5; expected none"),
        ("num_replicas: 2", "max_queued_requests: 5", "deployments[0].max_queued_requests: got 5; expected none"),
        ("ray_actor_options: {num_cpus: 0.1}", "request_router_config: {}", "[1].request_router_config: got {}; exp"),
        ("ray_actor_options: {num_cpus: 0.1}", "max_replicas_per_node: 1", "[1].max_replicas_per_node: got 1; expec"),
        ("- name: small", "- name: Ingress", "deployments[1].name: got 'Ingress'; expected each name once"),
    ],
)
def test_what_serve_takes_and_the_start_would_fail_on_is_refused(
    tmp_path: Path, good: str, bad: str, said: str
) -> None:
    assert good in GOOD
    assert said in _refusal(tmp_path, GOOD.replace(good, bad))


@pytest.mark.parametrize("path", ["deployments.app:build", "deployments.app.build"])
def test_a_second_application_of_ours_is_refused_and_a_strangers_is_not(tmp_path: Path, path: str) -> None:
    second = "  - {name: second, route_prefix: /second, import_path: 'PATH'}\n"
    _load(tmp_path, GOOD + second.replace("PATH", "other:app"))
    message = _refusal(tmp_path, GOOD + second.replace("PATH", path))
    assert f"applications[1].import_path: got '{path}'; expected deployments.app:build in one application" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("applications: [{import_path: 'deployments.app:build', deployments: [null]}]", "deployments[0]: got None"),
        ("applications: [{import_path: 'deployments.app:build', deployments: [[]]}]", "deployments[0]: got []"),
        ("applications: [null]", "applications[0]: got None; expected an object"),
        ("applications: 5", "applications: got 5; expected a list"),
        ("proxy_location: HeadOnly", "applications: missing; expected a list"),
    ],
)
def test_an_entry_of_another_shape_is_named(tmp_path: Path, text: str, said: str) -> None:
    assert said in _refusal(tmp_path, text)


def test_the_replicas_own_bundle_is_what_the_application_reserves() -> None:
    from deployments.app import REPLICA_NUM_CPUS

    assert REPLICA_BUNDLE_CPUS == REPLICA_NUM_CPUS


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("tenants: {key: {name: a}}", "tenants: {SECRET: {nmae: a}}"),
        ("tenants: {key: {name: a}}", "tenants: {SECRET: null, other: {name: b}}"),
        ("tenants: {key: {name: a}}", "tenants: {'sha256:SECRET': {name: a}}"),
        ("tenants: {key: {name: a}}", "tenants: SECRET"),
        ("tenants: {key: {name: a}}", "tenants: [SECRET]"),
        ("tenants: {key: {name: a}}", "tenant: {SECRET: {name: a}}"),
        ("tenants: {key: {name: a}}", "tenants: {SECRET: {name: a}, SECRET: {name: a}}"),
        ("user_config: {alpha: 2.0, tenants: {key: {name: a}}}", "user_config: [SECRET]"),
        ("user_config: {alpha: 2.0, tenants: {key: {name: a}}}", "user_cofig: {tenants: {SECRET: {name: a}}}"),
        (
            "autoscaling_config: {min_replicas: 0, max_replicas: 2, target_ongoing_requests: 8}",
            "user_config: {tenants: {SECRET: {name: a}}}",
        ),
        ("num_replicas: 2\n        user_config: {alpha: 2.0,", "num_replicas: x\n        user_config: {SECRET: 2,"),
    ],
)
def test_no_message_shows_an_api_key(tmp_path: Path, good: str, bad: str) -> None:
    assert good in GOOD
    message = _refusal(tmp_path, GOOD.replace(good, bad))
    assert message
    assert "SECRET" not in message


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


def test_a_file_of_keys_is_checked_where_it_is_there(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    text = GOOD.replace("tenants: {key: {name: a}}", f"tenant_keys_file: {keys}")
    assert _load(tmp_path, text).user_config.tenant_keys_file == str(keys)
    keys.write_text("SECRET: {nmae: a}")
    message = _refusal(tmp_path, text)
    assert f"user_config.tenant_keys_file ({keys}).tenants[0].nmae: unknown key" in message
    assert "SECRET" not in message
