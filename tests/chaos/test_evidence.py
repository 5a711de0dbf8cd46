from __future__ import annotations

from pathlib import Path

from tests.chaos.evidence import keep, mentions


def test_the_lines_that_mention_a_request_are_found_and_no_others(tmp_path: Path) -> None:
    logs = tmp_path / "ray" / "logs"
    logs.mkdir(parents=True)
    (logs / "ingress.log").write_text('{"request_id":"chaos-4","failovers":1}\n{"request_id":"chaos-42"}\n')
    (logs / "worker.err").write_text("cmpl-chaos-4~1 chaos-4 failed\n")
    (logs / "state.bin").write_text("chaos-4\n")

    assert mentions(tmp_path, ["chaos-4"]) == [
        'ingress.log: {"request_id":"chaos-4","failovers":1}',
        "worker.err: cmpl-chaos-4~1 chaos-4 failed",
    ]
    assert mentions(tmp_path, []) == []


def test_logs_are_kept_where_they_stood_and_nothing_else_is(tmp_path: Path) -> None:
    session = tmp_path / "run" / "session"
    session.mkdir(parents=True)
    (session / "queue.log").write_text("granted")
    (session / "model.safetensors").write_text("weights")
    (tmp_path / "run" / "latest").symlink_to(session)

    assert keep(tmp_path / "run", tmp_path / "kept") == 1

    kept = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert kept == [tmp_path / "kept" / "session" / "queue.log"]
