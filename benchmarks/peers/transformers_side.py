"""transformers' continuous batching as a side of the offline comparison: runs under our own Python, as a plain script.

Arguments: the checkpoint's folder, the most sequences at a time, the longest sequence in tokens.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version

from side_protocol import open_answers, serve  # type: ignore[import-not-found]  # beside this script

_PAGE_TOKENS = 32
_BATCH_TOKENS = 512
_NO_TOKEN = -1


def main(folder: str, max_num_seqs: int, max_model_len: int) -> None:
    answer = open_answers()
    import torch
    from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    # Of the two ways to attend that run without a GPU, this one was the faster.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="paged|eager").eval()
    batching = ContinuousBatchingConfig(
        page_size=_PAGE_TOKENS,
        num_blocks=(max_num_seqs * 512 + max_model_len) // _PAGE_TOKENS,
        max_batch_tokens=_BATCH_TOKENS,
        max_requests_per_batch=max_num_seqs,
        allow_block_sharing=False,  # no cached prefixes
    )

    def generate(prompts: list[list[int]], num_tokens: int) -> list[list[int]]:
        greedy = GenerationConfig(do_sample=False, max_new_tokens=num_tokens, eos_token_id=_NO_TOKEN, pad_token_id=0)
        made = model.generate_batch(prompts, greedy, batching, warmup=False)
        return [list(each.generated_tokens) for each in made.values()]

    serve(answer, {name: version(name) for name in ("transformers", "torch")}, generate)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
