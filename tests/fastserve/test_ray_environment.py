from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fastserve.ports import PortRange
from fastserve.ray_environment import HAProxy, ray_environment

FOLDER = Path("/tmp/run")
HAPROXY = HAProxy(FOLDER / "haproxy", 5_000, replica_ports=PortRange(29_000, 29_998))
FIRST_PORT, LAST_PORT = "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT", "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"


def test_haproxy_takes_as_many_connections_as_it_is_told() -> None:
    environment = ray_environment({}, FOLDER, HAPROXY)

    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert environment["RAY_SERVE_HAPROXY_MAXCONN"] == "5000"


def test_steps_do_not_yield_to_every_other_process_of_the_machine() -> None:
    import ray._private.ray_constants as ray_constants

    assert ray_environment({}, FOLDER, None)[ray_constants.RAY_WORKER_NICENESS] == "0"


def test_without_haproxy_the_plain_proxy_stays_in_charge() -> None:
    assert not [name for name in ray_environment({}, FOLDER, None) if "HAPROXY" in name or "HA_PROXY" in name]


def test_what_the_operator_has_set_wins() -> None:
    given = {"RAY_AUTH_MODE": "token", "RAY_SERVE_ENABLE_HA_PROXY": "0"}

    environment = ray_environment(given, FOLDER, HAPROXY)

    assert environment.items() >= given.items()


def test_the_ingresses_behind_haproxy_get_the_ports_that_were_claimed() -> None:
    environment = ray_environment({}, FOLDER, HAPROXY)

    assert (environment[FIRST_PORT], environment[LAST_PORT]) == ("29000", "29998")


@pytest.mark.parametrize(("name", "other"), [(FIRST_PORT, LAST_PORT), (LAST_PORT, FIRST_PORT)])
def test_one_end_of_the_range_that_the_operator_has_set_leaves_the_other_to_ray(name: str, other: str) -> None:
    environment = ray_environment({name: "31500"}, FOLDER, HAPROXY)

    assert environment[name] == "31500"
    assert other not in environment


def test_authentication_is_set_explicitly() -> None:
    assert ray_environment({}, FOLDER, None)["RAY_AUTH_MODE"] == "disabled"


def test_temporary_files_go_with_the_run_and_rays_sessions_stay() -> None:
    environment = ray_environment({}, FOLDER, None)

    assert (environment["TMPDIR"], environment["RAY_TMPDIR"]) == (str(FOLDER), "/tmp")


def test_a_place_for_temporary_files_that_the_operator_has_set_is_rays_too() -> None:
    environment = ray_environment({"TMPDIR": "/scratch"}, FOLDER, None)

    assert (environment["TMPDIR"], environment["RAY_TMPDIR"]) == ("/scratch", "/scratch")


def test_haproxys_admin_socket_lies_in_the_private_folder() -> None:
    sockets = [
        value
        for name, value in ray_environment({}, FOLDER, HAPROXY).items()
        if name.startswith("RAY_SERVE_HAPROXY") and value.startswith("/")
    ]

    assert len(sockets) == 6
    assert all(Path(value).is_relative_to(FOLDER) for value in sockets)


def test_the_tools_of_this_environment_come_first_on_the_path() -> None:
    path = ray_environment({"PATH": "/usr/bin"}, FOLDER, None)["PATH"]

    assert path.split(":") == [str(Path(sys.executable).parent), "/usr/bin"]


def test_every_variable_that_we_set_is_one_that_this_ray_reads() -> None:
    import ray

    sources = "".join(path.read_text() for path in Path(ray.__file__).parent.glob("serve/_private/constants.py"))
    ours = [name for name in ray_environment({}, FOLDER, HAPROXY) if name.startswith("RAY_SERVE_")]

    assert [name for name in ours if f'"{name}"' not in sources] == []


def test_rays_control_service_keeps_few_of_the_requests_that_are_over() -> None:
    import ray

    name = "task_events_max_num_task_in_gcs"  # the program itself says which names it reads
    assert name.encode() in (Path(ray.__file__).parent / "core/src/ray/gcs/gcs_server").read_bytes()
    assert int(ray_environment({}, FOLDER, None)[f"RAY_{name}"]) <= 10_000


def test_ray_and_serve_do_less_often_what_they_do_all_the_time() -> None:
    environment = ray_environment({}, FOLDER, None)

    assert float(environment["RAY_SERVE_CONTROL_LOOP_INTERVAL_S"]) > 0.1
    assert int(environment["RAY_SERVE_METRICS_EXPORT_INTERVAL_MS"]) > 100
    assert int(environment["RAY_task_events_report_interval_ms"]) > 1_000
    assert environment["RAY_event_stats"] == "0"


def test_the_log_monitor_looks_for_new_files_by_its_interval_however_few_there_are() -> None:
    environment = ray_environment({}, FOLDER, None)

    assert environment["RAY_LOG_MONITOR_MANY_FILES_THRESHOLD"] == "0"
    assert float(environment["LOG_NAME_UPDATE_INTERVAL_S"]) > 0.5
