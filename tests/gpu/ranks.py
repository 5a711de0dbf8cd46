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
from engine.backends.deepspeed import DeepSpeedEngine, load_rank
from engine.checkpoint import resolve
from engine.config import EngineConfig
from engine.protocol import Sampled
from engine.rank import Rank
from engine.runner import build_runner
from engine.sharding import load_shard, parameter_bytes
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
