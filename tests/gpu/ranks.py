"""What the processes of these tests run. Knows no pytest: a child imports this file before it chooses its device."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from engine import process_group
from engine.backends.deepspeed import DeepSpeedEngine, FollowingRank, load_rank
from engine.checkpoint import resolve
from engine.config import EngineConfig
from engine.cuda.build import reserved_bytes
from engine.kv_cache import bytes_per_block
from engine.loop import EngineLoop
from engine.protocol import CommandMessage, EngineRequest, Sampled
from engine.rank import Rank
from engine.runner import ModelRunner, build_runner, probe_shapes
from engine.sharding import load_shard, parameter_bytes
from engine.step import arrange
from tests.engine.chunks import make_chunk
from tests.engine.playing import Played, make_played, play

Put = Callable[[Any], None]
HOST = "127.0.0.1"
#: One token, less than a block, and several blocks.
LENGTHS = [1, 9, 33, 70]


@dataclass(frozen=True, slots=True)
class PlayedRank:
    """What one rank saw. logits: of each sequence, by position."""

    logits: list[dict[int, npt.NDArray[np.float32]]]
    num_parameter_bytes: int
    backend: str
    local_rank: str
    num_visible_devices: int

    def sequences(self) -> list[Played]:
        sequences = make_played(LENGTHS)
        for sequence, seen in zip(sequences, self.logits, strict=True):
            sequence.logits = {position: torch.from_numpy(row) for position, row in seen.items()}
        return sequences


@dataclass(frozen=True, slots=True)
class ExecutedPrompt:
    """What rank 0 of a replica of one answered, and what it holds on its device."""

    sampled: Sampled
    num_device_bytes: int


def play_shard(rank: int, port: int, put: Put, config: EngineConfig) -> None:
    """Loads this rank's part and takes it through mixed batches."""
    see_only(rank, config)
    world = process_group.join(config, rank, HOST, port)
    model = load_shard(config, resolve(config.source), world)
    sequences = make_played(LENGTHS)
    play(build_runner(model, config, world).run, sequences)
    put(
        PlayedRank(
            logits=[{at: row.cpu().numpy() for at, row in each.logits.items()} for each in sequences],
            num_parameter_bytes=parameter_bytes(model),
            backend=dist.get_backend(),
            local_rank=os.environ["LOCAL_RANK"],
            num_visible_devices=torch.cuda.device_count(),
        )
    )
    process_group.leave()


def execute_prompt(rank: int, port: int, put: Put, config: EngineConfig, prompt: list[int]) -> None:
    """One prefill on an engine of one rank, with the log probabilities of the whole prompt."""
    see_only(rank, config)
    engine = DeepSpeedEngine(load_rank(config, rank, HOST, port))
    (sampled,) = engine.execute([make_chunk("prompt", prompt, prompt_logprobs=1, history=prompt)])
    put(ExecutedPrompt(sampled, torch.cuda.memory_allocated() if config.device == "cuda" else 0))
    engine.close()


def live(rank: int, port: int, put: Put, config: EngineConfig, socket_path: str) -> None:
    """The life of a rank's process."""
    see_only(rank, config)
    member = Rank(config, rank)
    put(member.load(HOST, port))
    member.run(socket_path)


def see_only(rank: int, config: EngineConfig) -> None:
    """This process sees one device, its own, as Ray arranges it for an actor. Call it before CUDA is touched."""
    if config.device == "cuda":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[rank] if visible else str(rank)


@dataclass(frozen=True, slots=True)
class ComparedDecodes:
    """What replayed decodes gave beside eager ones of the same steps.

    differences: the largest of any logit, by number of rows. num_graphs: recorded. used_bytes: of the device, beside
    the cache, since before the runner was built.
    """

    num_graphs: int
    differences: dict[int, float]
    used_bytes: int
    reserved_bytes: int


def compare_decodes(rank: int, port: int, put: Put, config: EngineConfig) -> None:
    """Every number of rows once: a prompt eagerly, then one decode both ways over the same cache."""
    see_only(rank, config)
    world = process_group.join(config, rank, HOST, port)
    model = load_shard(config, resolve(config.source), world)
    probe_shapes(model, world.device)  # loads the libraries that any pass needs
    before = torch.cuda.mem_get_info()[0]
    recorded = build_runner(model, config, world)
    assert isinstance(recorded, ModelRunner)
    used_bytes = before - torch.cuda.mem_get_info()[0] - recorded.cache.num_bytes
    eager = ModelRunner(model, recorded.cache, world.device)
    differences = {
        num_rows: _difference(recorded, eager, num_rows, config.block_size)
        for num_rows in range(config.max_num_seqs, 0, -1)
    }
    block_bytes = bytes_per_block(recorded.cache.shapes, config.block_size, torch.bfloat16)
    reserved = reserved_bytes(config, model.config.vocab_size, torch.bfloat16, block_bytes)
    put(ComparedDecodes(recorded.num_graphs, differences, used_bytes, reserved))
    process_group.leave()


def _difference(recorded: ModelRunner, eager: ModelRunner, num_rows: int, block_size: int) -> float:
    prompts = [
        make_chunk(str(row), length=5 + 17 * row % 40, block_table=[2 * row, 2 * row + 1]) for row in range(num_rows)
    ]
    eager.run(arrange(prompts, block_size).step)
    decodes = [
        make_chunk(chunk.seq_id, [7], start=len(chunk.token_ids), block_table=chunk.block_table) for chunk in prompts
    ]
    step = arrange(decodes, block_size).step
    replayed = recorded.run(step).clone()
    return float((replayed - eager.run(step)).abs().max())


@dataclass(frozen=True, slots=True)
class Generated:
    """What the loop of a replica of any size answered, by lease, and how often it preempted."""

    token_ids: dict[str, list[int]]
    num_preemptions: int


def generate_all(rank: int, port: int, put: Put, config: EngineConfig, requests: list[EngineRequest]) -> None:
    """Rank 0 runs the loop until every request has ended; the others follow."""
    see_only(rank, config)
    loaded = load_rank(config, rank, HOST, port)
    if rank:
        FollowingRank(loaded).follow()
        return
    engine = DeepSpeedEngine(loaded)
    loop = EngineLoop(engine, config)
    loop.apply(CommandMessage(added=requests))
    token_ids: dict[str, list[int]] = {request.lease_id: [] for request in requests}
    while loop.has_work:
        for output in loop.step().outputs:
            assert output.error is None, output.error
            token_ids[output.lease_id] += output.token_ids
    loop.check_idle()
    put(Generated(token_ids, loop.stats.num_preemptions))
    engine.close()
