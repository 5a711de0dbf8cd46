"""Owns the child's end of a side: one JSON object a line in, one out. Imports nothing of ours, for a peer's own Python.

The first line out says what runs (`versions`). Then each `{"prompts": [[ids]], "num_tokens": n}` is answered by
`{"token_ids": [[ids]], "took_s": seconds}`, until the input ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

Generate = Callable[[list[list[int]], int], list[list[int]]]


def open_answers() -> Callable[[object], None]:
    """What writes an answer. Whatever else the process prints from now on goes to its standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return lambda answer: print(json.dumps(answer), file=answers)


def serve(answer: Callable[[object], None], versions: dict[str, str], generate: Generate) -> None:
    """Answers until the input ends. The time is that of `generate` alone."""
    answer({"versions": versions})
    for line in sys.stdin:
        asked = json.loads(line)
        started_s = time.perf_counter()
        token_ids = generate(asked["prompts"], asked["num_tokens"])
        answer({"token_ids": token_ids, "took_s": time.perf_counter() - started_s})
