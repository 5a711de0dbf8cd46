"""FastServe as a side of the offline comparison: the loop and the backend that a replica runs, on one rank.

`python -m benchmarks.peers.fastserve_side FOLDER MAX_NUM_SEQS MAX_MODEL_LEN`
"""

from __future__ import annotations

import sys
from importlib.metadata import version

from benchmarks.peers.side_protocol import open_answers, serve
from engine.backends.deepspeed import DeepSpeedEngine, load_rank
from engine.config import EngineConfig
from engine.loop import EngineLoop
from engine.protocol import CommandMessage, EngineRequest, SamplingParams
from fastserve.ports import LOOPBACK, free_port
from scheduling.score import ScorePolicy, Stamp


class OfflineEngine:
    """An engine that is asked for whole batches."""

    def __init__(self, loop: EngineLoop) -> None:
        self._loop = loop
        self._num_batches = 0

    def generate(self, prompts: list[list[int]], num_tokens: int) -> list[list[int]]:
        """Greedy answers of `num_tokens` each, all at once.

        Raises:
            RuntimeError: the engine gave one up.
        """
        self._num_batches += 1
        names = [f"{self._num_batches}-{index}" for index in range(len(prompts))]
        answers: dict[str, list[int]] = {name: [] for name in names}
        self._loop.apply(
            CommandMessage([_request(name, prompt, num_tokens) for name, prompt in zip(names, prompts, strict=True)])
        )
        while self._loop.has_work:
            for output in self._loop.step().outputs:
                if output.error is not None:
                    raise RuntimeError(output.error)
                answers[output.lease_id] += output.token_ids
        return [answers[name] for name in names]


def _request(name: str, prompt: list[int], num_tokens: int) -> EngineRequest:
    sampling = SamplingParams(max_tokens=num_tokens, seed=0, temperature=0.0, ignore_eos=True)
    return EngineRequest(name, prompt, sampling, Stamp(0, 0), ScorePolicy())


def main(folder: str, max_num_seqs: int, max_model_len: int) -> None:
    answer = open_answers()
    config = EngineConfig(
        "peer",
        folder,
        max_num_seqs=max_num_seqs,
        max_model_len=max_model_len,
        kv_cache_tokens=max_num_seqs * 512 + max_model_len,
        prefix_caching=False,
    )
    engine = OfflineEngine(EngineLoop(DeepSpeedEngine(load_rank(config, 0, LOOPBACK, free_port())), config))
    serve(answer, {name: version(name) for name in ("deepspeed", "torch", "transformers")}, engine.generate)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
