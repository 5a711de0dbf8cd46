from __future__ import annotations

from pathlib import Path

from tests.chaos.evidence import mentions


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
