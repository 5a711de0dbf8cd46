"""A side that needs no model: each answer repeats the prompt's last token. `fail` as an argument: it ends at once."""

from __future__ import annotations

import sys

from benchmarks.peers.side_protocol import open_answers, serve


def main() -> None:
    answer = open_answers()
    print("what libraries print", flush=True)  # noqa: T201 - goes to the log, not between the answers
    if "fail" in sys.argv:
        sys.exit("no weights in the cupboard")
    serve(answer, {"echo": "1"}, lambda prompts, num_tokens: [[prompt[-1]] * num_tokens for prompt in prompts])


if __name__ == "__main__":
    main()
