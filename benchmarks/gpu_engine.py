"""Times the decodes and the prefill of the loop and the backend that a replica runs, in this process, on one rank."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from benchmarks.engine import EngineWorkload
from benchmarks.gpu_shapes import ModelShape
from engine.config import CudaGraphs, Device, Dtype, EngineConfig
from engine.loop import EngineLoop
from engine.protocol import CommandMessage, EngineRequest, SamplingParams
from fastserve.ports import LOOPBACK, free_port
from scheduling.score import ScorePolicy, Stamp

#: Steps at the beginning of each batch that are not counted.
_WARM_UP_STEPS = 3
_PREFILL_ROUNDS = 3
_PAGE_TOKENS = 256


@dataclass(frozen=True, slots=True)
class EngineRun:
    """One engine, and what it is to do."""

    folder: str
    shape: ModelShape
    device: Device
    dtype: Dtype
    cuda_graphs: CudaGraphs
    batches: tuple[int, ...]
    load: EngineWorkload
    prefill_tokens: int

    def config(self) -> EngineConfig:
        longest = max(self.load.num_prompt_tokens + self.load.num_output_tokens, self.prefill_tokens + 1)
        blocks = 1 - (-(self.load.num_prompt_tokens + self.load.num_output_tokens) // _PAGE_TOKENS)  # one to spare
        most = max(self.batches)
        return EngineConfig(
            "bench",
            self.folder,
            device=self.device,
            dtype=self.dtype,
            cuda_graphs=self.cuda_graphs,
            block_size=_PAGE_TOKENS,
            max_num_seqs=most,
            max_num_batched_tokens=max(self.prefill_tokens, most),
            max_model_len=longest,
            kv_cache_tokens=max(most * blocks, -(-longest // _PAGE_TOKENS)) * _PAGE_TOKENS,
            prefix_caching=False,
        )


@dataclass(frozen=True, slots=True)
class DecodeTime:
    """Of steps in which every sequence decoded: the median, and the tokens of all contexts at that time."""

    num_sequences: int
    step_s: float
    num_steps: int
    num_context_tokens: int

    @property
    def tokens_per_s(self) -> float:
        return self.num_sequences / self.step_s


@dataclass(frozen=True, slots=True)
class EngineTimes:
    """num_graphs: batch sizes whose decodes were replayed. load_s: checkpoint, sharding, cache and recording."""

    num_graphs: int
    load_s: float
    decodes: list[DecodeTime]
    prefill_s: float


def time_engine(run: EngineRun) -> EngineTimes:
    """Loads the engine, which takes this process: one process can be in one group of ranks."""
    from engine.backends.deepspeed import DeepSpeedEngine, load_rank
    from engine.runner import ModelRunner

    began_s, config = time.perf_counter(), run.config()
    loaded = load_rank(config, 0, LOOPBACK, free_port())
    load_s = time.perf_counter() - began_s
    engine = DeepSpeedEngine(loaded)
    loop = EngineLoop(engine, config)
    vocab_size = run.shape.vocab_size
    decodes = [time_decode(loop, run.load, num_sequences, vocab_size) for num_sequences in sorted(run.batches)]
    prefills = [time_prefill(loop, run.prefill_tokens, seed, vocab_size) for seed in range(_PREFILL_ROUNDS + 1)]
    runner = loaded.runner
    engine.close()
    num_graphs = runner.num_graphs if isinstance(runner, ModelRunner) else 0
    return EngineTimes(num_graphs, load_s, decodes, statistics.median(prefills[1:]))


def time_decode(loop: EngineLoop, load: EngineWorkload, num_sequences: int, vocab_size: int) -> DecodeTime:
    """Prefills all sequences, times the steps in which all decode, and lets the rest run out.

    Raises:
        RuntimeError: a sequence failed, or the answers are too short for the time that the prefills take.
    """
    prefix = f"decode-{num_sequences}"
    requests = [
        greedy_request(f"{prefix}-{index}", index, load.num_prompt_tokens, load.num_output_tokens, vocab_size)
        for index in range(num_sequences)
    ]
    loop.apply(CommandMessage(added=requests))
    num_tokens = dict.fromkeys((request.lease_id for request in requests), 0)
    times: list[float] = []
    contexts: list[int] = []
    while loop.has_work:
        all_decode = all(0 < count < load.num_output_tokens for count in num_tokens.values())
        num_before = sum(num_tokens.values())
        began_s = time.perf_counter()
        outputs = loop.step().outputs
        took_s = time.perf_counter() - began_s
        for output in outputs:
            if output.error is not None:
                raise RuntimeError(output.error)
            num_tokens[output.lease_id] += len(output.token_ids)
        if all_decode:
            times.append(took_s)
            contexts.append(num_before + num_sequences * load.num_prompt_tokens)
    counted, seen = times[_WARM_UP_STEPS:], contexts[_WARM_UP_STEPS:]
    if not counted:
        raise RuntimeError(f"{num_sequences} sequences never decoded together: ask for more output tokens")
    return DecodeTime(num_sequences, statistics.median(counted), len(counted), int(statistics.median(seen)))


def time_prefill(loop: EngineLoop, num_tokens: int, seed: int, vocab_size: int) -> float:
    """Seconds from one prompt to its first token, alone.

    Raises:
        RuntimeError: it failed.
    """
    loop.apply(CommandMessage(added=[greedy_request(f"prefill-{seed}", seed, num_tokens, 1, vocab_size)]))
    began_s = time.perf_counter()
    while loop.has_work:
        for output in loop.step().outputs:
            if output.error is not None:
                raise RuntimeError(output.error)
    return time.perf_counter() - began_s


def greedy_request(
    lease_id: str, seed: int, num_prompt_tokens: int, num_output_tokens: int, vocab_size: int
) -> EngineRequest:
    """Prompt tokens that differ from request to request, and an answer of a fixed length."""
    prompt = [2 + (seed * 7919 + at * 104_729) % (vocab_size - 2) for at in range(num_prompt_tokens)]
    sampling = SamplingParams(max_tokens=num_output_tokens, seed=seed, temperature=0.0, ignore_eos=True)
    return EngineRequest(lease_id, prompt, sampling, Stamp(0, 0), ScorePolicy())
