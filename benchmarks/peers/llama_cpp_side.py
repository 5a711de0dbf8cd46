"""llama.cpp as a side of the offline comparison: runs under the Python of its own environment, as a plain script.

Arguments: the model's GGUF file, the most sequences at a time, the longest sequence in tokens.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

import llama_cpp  # type: ignore[import-not-found]  # of its own environment
import numpy as np
from side_protocol import open_answers, serve  # type: ignore[import-not-found]  # beside this script

_BATCH_TOKENS = 2048


class Context:
    """A model with room for `max_num_seqs` sequences."""

    def __init__(self, path: str, max_num_seqs: int, max_model_len: int) -> None:
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = max_num_seqs * max_model_len
        settings.n_seq_max = max_num_seqs
        settings.n_batch = _BATCH_TOKENS
        settings.n_threads = settings.n_threads_batch = len(os.sched_getaffinity(0))
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        self._batch = llama_cpp.llama_batch_init(_BATCH_TOKENS, 0, 1)

    def generate(self, prompts: list[list[int]], num_tokens: int) -> list[list[int]]:
        """Greedy answers of `num_tokens` each, all at once."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        answers = [[token] for token in self._prefill(prompts)]
        lengths = [len(prompt) for prompt in prompts]
        for number in range(num_tokens - 1):
            rows = [(answer[-1], lengths[index] + number, index, True) for index, answer in enumerate(answers)]
            for answer, token in zip(answers, self._decode(rows), strict=True):
                answer.append(token)
        return answers

    def _prefill(self, prompts: Sequence[Sequence[int]]) -> list[int]:
        """The first token of each answer."""
        rows = [
            (token, position, index, position == len(prompt) - 1)
            for index, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        batches = [rows[start : start + _BATCH_TOKENS] for start in range(0, len(rows), _BATCH_TOKENS)]
        return [token for batch in batches for token in self._decode(batch)]

    def _decode(self, rows: Sequence[tuple[int, int, int, bool]]) -> list[int]:
        """rows: token, position, sequence, and whether the next token is wanted, which is returned."""
        self._batch.n_tokens = len(rows)
        for at, (token, position, sequence, is_wanted) in enumerate(rows):
            self._batch.token[at] = token
            self._batch.pos[at] = position
            self._batch.n_seq_id[at] = 1
            self._batch.seq_id[at][0] = sequence
            self._batch.logits[at] = is_wanted
        failure = llama_cpp.llama_decode(self._context, self._batch)
        if failure:
            raise RuntimeError(f"llama_decode of {len(rows)} tokens gave {failure}, expected 0")
        return [self._best(at) for at, row in enumerate(rows) if row[3]]

    def _best(self, at: int) -> int:
        logits = llama_cpp.llama_get_logits_ith(self._context, at)
        return int(
            np.ctypeslib.as_array(ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (self._vocab_size,)).argmax()
        )


def main(path: str, max_num_seqs: int, max_model_len: int) -> None:
    answer = open_answers()
    context = Context(path, max_num_seqs, max_model_len)
    serve(answer, {"llama-cpp-python": version("llama-cpp-python")}, context.generate)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
