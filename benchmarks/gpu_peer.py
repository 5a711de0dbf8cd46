"""Times the decodes of transformers' own continuous batching on the same device and checkpoint."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.gpu_engine import DecodeTime, EngineRun, greedy_request

_WARM_UP_STEPS = 3


def time_transformers(run: EngineRun) -> list[DecodeTime]:
    """The same batches of the same prompts, one after another.

    Raises:
        RuntimeError: a request gave fewer tokens than asked for.
    """
    import torch
    from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig, PreTrainedModel
    from transformers.generation.continuous_batching.requests import GenerationOutput

    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(Path(run.folder), dtype=getattr(torch, run.dtype))
    model.to(torch.device(run.device)).eval()  # type: ignore[arg-type]
    load, found = run.load, []
    # No token ends an answer: the vocabulary has no such id.
    settings = GenerationConfig(max_new_tokens=load.num_output_tokens, do_sample=False, eos_token_id=-1)
    ours = run.config()  # the same room for keys and values, and for one step's tokens
    sizes = ContinuousBatchingConfig(
        num_blocks=(ours.kv_cache_tokens or 0) // ours.block_size + 1, max_batch_tokens=ours.max_num_batched_tokens
    )
    for num in sorted(run.batches):
        inputs = [
            greedy_request("", index, load.num_prompt_tokens, 1, run.shape.vocab_size).prompt_token_ids
            for index in range(num)
        ]
        outputs: Mapping[str, GenerationOutput] = model.generate_batch(  # type: ignore[operator]
            inputs, generation_config=settings, continuous_batching_config=sizes, record_timestamps=True
        )
        stamps = [output.timestamps or [] for output in outputs.values()]
        if len(stamps) < num or any(len(each) < load.num_output_tokens for each in stamps):
            raise RuntimeError(f"transformers gave {sorted(map(len, stamps))} tokens to {num} requests")
        found.append(decode_time(stamps, load.num_prompt_tokens))
    return found


def decode_time(stamps: Sequence[Sequence[float]], num_prompt_tokens: int) -> DecodeTime:
    """From the times of every sequence's tokens: the median gap while all of them decoded."""
    began_s, ended_s = max(each[0] for each in stamps), min(each[-1] for each in stamps)
    own = [at for at in max(stamps, key=lambda each: each[0]) if began_s <= at <= ended_s][_WARM_UP_STEPS:]
    gaps = [later - earlier for earlier, later in itertools.pairwise(own)]
    if not gaps:
        raise RuntimeError(f"{len(stamps)} sequences never decoded together: ask for more output tokens")
    middle = own[len(own) // 2]
    contexts = sum(num_prompt_tokens + sum(at < middle for at in each) for each in stamps)
    return DecodeTime(len(stamps), statistics.median(gaps), len(gaps), contexts)
