"""Runs a designed set of steps on an engine, in a drawn order, and times each. Fits nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

from engine.protocol import Chunk, EngineCapacity, InferenceEngine, SamplingParams
from fastserve.calibration.step_sample import StepSample, StepShape
from scheduling.swap_area import BlockCopies

_CONTEXTS = (64, 512, 2048)
_CHUNKS = (8, 16, 32, 64, 128, 256)  # and the token budget of a step
_STARTS = (0, 1024)
_MIXED_CONTEXT, _MIXED_CHUNKS = 256, (32, 128)
_NUM_WARM_UPS = 2
_FIRST_TOKEN_ID = 100  # past the control tokens of any vocabulary that is served


def designed_shapes(capacity: EngineCapacity) -> list[StepShape]:
    """Decodes alone, prompts alone, and both, as far as the engine can hold them."""
    numbers = _powers_of_two(capacity.max_num_seqs)
    budget = capacity.max_num_batched_tokens
    chunks = sorted({*(chunk for chunk in _CHUNKS if chunk < budget), budget})
    shapes = [StepShape(number, context) for number in numbers for context in _CONTEXTS]
    shapes += [StepShape(num_prefill_tokens=chunk, prefill_start=start) for chunk in chunks for start in _STARTS]
    shapes += [StepShape(number, _MIXED_CONTEXT, chunk) for number in numbers[2::2] for chunk in _MIXED_CHUNKS]
    return [shape for shape in shapes if _fits(shape, capacity)]


def measure_steps(
    engine: InferenceEngine,
    num_rounds: int,
    seed: int,
    clock: Callable[[], float] = time.perf_counter,
    on_step: Callable[[], None] = lambda: None,
) -> list[StepSample]:
    """Every shape once a round, in an order of the round's own, so that a drift of the machine meets all alike.

    What stands in the KV cache does not matter here, as long as something was written there.
    """
    capacity = engine.capacity()
    shapes, rng, samples = designed_shapes(capacity), random.Random(seed), []
    _write_cache(engine, capacity, rng)
    for shape in shapes[-_NUM_WARM_UPS:]:
        engine.execute(list(_chunks(shape, capacity, rng)))
    for _ in range(num_rounds):
        for shape in rng.sample(shapes, len(shapes)):
            chunks = list(_chunks(shape, capacity, rng))
            began_s = clock()
            engine.execute(chunks)
            samples.append(StepSample(shape, clock() - began_s))
            on_step()
    return samples


def _write_cache(engine: InferenceEngine, capacity: EngineCapacity, rng: random.Random) -> None:
    """Writes all blocks. Memory that was never written reads as one page of zeros, which the processor has at hand, and
    a decode's context would seem to cost next to nothing."""
    if not (num_slots := capacity.num_swap_slots):
        _fill_cache(engine, capacity, rng)
        return
    for first in range(0, capacity.num_blocks, num_slots):
        places = range(min(num_slots, capacity.num_blocks - first))
        engine.copy_blocks(BlockCopies(inward=[(place, first + place) for place in places]))


def _fill_cache(engine: InferenceEngine, capacity: EngineCapacity, rng: random.Random) -> None:
    """The same with prompts, which takes longer."""
    num_tokens = min(capacity.max_num_batched_tokens, capacity.max_model_len)
    free = iter(range(capacity.num_blocks))
    for _ in range(capacity.num_blocks // _num_blocks(num_tokens, capacity)):
        engine.execute([_chunk("prompt", num_tokens, 0, free, capacity, rng)])


def _powers_of_two(most: int) -> list[int]:
    """1, 2, 4, ... and the most."""
    numbers = [1]
    while numbers[-1] * 2 < most:
        numbers.append(numbers[-1] * 2)
    return [*numbers, most] if most > 1 else numbers


def _fits(shape: StepShape, capacity: EngineCapacity) -> bool:
    longest = max(shape.context + 1, shape.prefill_start + shape.num_prefill_tokens)
    num_tokens = shape.num_decodes + shape.num_prefill_tokens
    num_blocks = shape.num_decodes * _num_blocks(shape.context + 1, capacity)
    num_blocks += _num_blocks(shape.prefill_start + shape.num_prefill_tokens, capacity)
    return (
        longest <= capacity.max_model_len
        and num_blocks <= capacity.num_blocks
        and 0 < num_tokens <= capacity.max_num_batched_tokens
    )


def _num_blocks(num_tokens: int, capacity: EngineCapacity) -> int:
    return -(-num_tokens // capacity.block_size)


def _chunks(shape: StepShape, capacity: EngineCapacity, rng: random.Random) -> Iterator[Chunk]:
    """The step's chunks, each over blocks of its own."""
    free = iter(range(capacity.num_blocks))
    for number in range(shape.num_decodes):
        yield _chunk(f"decode-{number}", 1, shape.context, free, capacity, rng)
    if shape.num_prefill_tokens:
        yield _chunk("prompt", shape.num_prefill_tokens, shape.prefill_start, free, capacity, rng)


def _chunk(
    seq_id: str, num_tokens: int, start: int, free: Iterator[int], capacity: EngineCapacity, rng: random.Random
) -> Chunk:
    history = [rng.randrange(_FIRST_TOKEN_ID, capacity.vocab_size) for _ in range(start + num_tokens)]
    return Chunk(
        seq_id=seq_id,
        token_ids=history[start:],
        start=start,
        block_table=[next(free) for _ in range(_num_blocks(len(history), capacity))],
        samples=True,
        sampling=SamplingParams(max_tokens=1, seed=0, temperature=0.0, ignore_eos=True),
        history=history,
        num_prompt_tokens=len(history),
    )
