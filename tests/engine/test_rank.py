"""Tests whole replicas without Ray: rank processes, the socket, the loop; their answers, their end and their death."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.config import EngineConfig
from engine.grammar import GrammarRefused
from engine.protocol import CommandMessage, EngineRequest, EngineStats, FinishReason, SequenceOutput
from engine.rank import Rank
from engine.shared_memory import SEGMENT_FOLDER
from engine.wire import RankGone, ReplicaChannel
from scheduling.score import Stamp
from tests.engine.factories import make_request
from tests.engine.playing import load_reference
from tests.engine.tokenizers import as_checkpoint_tokenizer
from tests.engine.worlds import RankWorld

TinyModel = Callable[[str], Path]
MAX_TOKENS = 24
#: Among them one token, more than one step's budget, and two that begin alike.
PROMPTS = [[5], [7, 8, 9], list(range(2, 60)), [*list(range(2, 50)), 9, 9], [200, 100] * 60]


def live(rank: int, port: int, put: Callable[[Any], None], config: EngineConfig, socket_path: str) -> None:
    """The life of a rank's process."""
    member = Rank(config, rank)
    put(member.load("127.0.0.1", port))
    member.run(socket_path)


def tell_how_it_is_scheduled(rank: int, port: int, put: Callable[[Any], None], config: EngineConfig) -> None:
    """What a rank's process that Ray's have made hears from the system, beside its engine and in it."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    member = Rank(config, rank)
    member.load("127.0.0.1", port)
    put((os.sched_getscheduler(0), member._thread.call(os.sched_getscheduler, 0)))


def make_config(folder: Path, size: int, **settings: Any) -> EngineConfig:
    config = EngineConfig(
        model_name="tiny",
        source=str(folder),
        dtype="float32",
        tensor_parallel_size=size,
        max_num_seqs=4,
        max_num_batched_tokens=32,
        kv_cache_tokens=400,
        num_threads=1,
    )
    return replace(config, **settings)


def make_world(folder: Path, size: int, socket_path: Path, **settings: Any) -> RankWorld:
    return RankWorld(live, size, (make_config(folder, size, **settings), str(socket_path)))


def greedy_request(lease_id: str, prompt: list[int], max_tokens: int = MAX_TOKENS) -> EngineRequest:
    return make_request(lease_id, prompt=prompt, max_tokens=max_tokens, temperature=0)


async def answers(
    channel: ReplicaChannel, requests: list[EngineRequest], seen: list[EngineStats] | None = None
) -> dict[str, list[int]]:
    """Sends all at once and gathers. seen: gets every step's counters."""
    await channel.send(CommandMessage(added=requests))
    return await gathered(channel, requests, seen)


async def gathered(
    channel: ReplicaChannel, requests: list[EngineRequest], seen: list[EngineStats] | None = None
) -> dict[str, list[int]]:
    """The answers to what has been sent, when each has ended as it should."""
    token_ids: dict[str, list[int]] = {request.lease_id: [] for request in requests}
    open_leases = set(token_ids)
    async for message in channel:
        if seen is not None:
            seen.append(message.stats)
        for output in message.outputs:
            token_ids[output.lease_id] += output.token_ids
            open_leases -= {output.lease_id} if ended_well(output) else set()
        if not open_leases:
            return token_ids
    raise RankGone("rank 0 hung up")


def ended_well(output: SequenceOutput) -> bool:
    assert output.finish_reason in (None, FinishReason.STOP, FinishReason.LENGTH), output.error
    return output.finish_reason is not None


def generated(folder: Path, prompt: list[int], max_tokens: int = MAX_TOKENS) -> list[int]:
    """transformers' own greedy answer."""
    reference = load_reference(folder)
    tokens = reference.generate(torch.tensor([prompt]), max_new_tokens=max_tokens, do_sample=False, pad_token_id=0)
    found: list[int] = tokens[0, len(prompt) :].tolist()
    return found


def signalled(process: BaseProcess, number: signal.Signals) -> None:
    assert process.pid is not None
    os.kill(process.pid, number)


def segments(world: RankWorld) -> list[str]:
    return [path.name for path in SEGMENT_FOLDER.glob(f"*_{world.port}_*")]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_ranks_steps_are_scheduled_before_the_processes_that_wait_for_them(tiny_model: TinyModel) -> None:
    with RankWorld(tell_how_it_is_scheduled, 1, (make_config(tiny_model("llama"), 1),)) as world:
        assert world.results() == [(os.SCHED_BATCH, os.SCHED_OTHER)]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("family", "size"), [("gemma2", 1), ("llama", 2)])
async def test_greedy_answers_are_those_of_transformers_and_a_hang_up_ends_every_rank(
    family: str, size: int, tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder, socket_path = tiny_model(family), tmp_path / "rank0.sock"
    with make_world(folder, size, socket_path) as world:
        capacities = await asyncio.to_thread(world.results)
        assert [capacity.num_blocks for capacity in capacities] == [25] * size
        assert len(capacities[0].model_bytes) == size
        assert capacities[0].eos_token_ids == [1]
        channel = await ReplicaChannel.connect(socket_path)
        assert segments(world) == []
        requests = [greedy_request(str(index), prompt) for index, prompt in enumerate(PROMPTS)]
        found = await asyncio.wait_for(answers(channel, requests), 200)
        await channel.close()
        assert await asyncio.to_thread(world.join) == [0] * size
    assert found == {str(index): generated(folder, prompt) for index, prompt in enumerate(PROMPTS)}
    assert not socket_path.exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("cpu_kernels", ["auto", "torch"])
async def test_each_rank_swaps_its_own_part_and_the_answers_stay_those_of_transformers(
    cpu_kernels: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder, socket_path, seen = tiny_model("llama"), tmp_path / "rank0.sock", list[EngineStats]()
    settings = {"max_num_seqs": 1, "preemption": "swap", "prefix_caching": False, "cpu_kernels": cpu_kernels}
    bulk = replace(greedy_request("bulk", PROMPTS[4], 200), is_suspect=True)  # so that rank 0 says when it begins
    urgent = replace(greedy_request("urgent", PROMPTS[3]), stamp=Stamp(50, 0))
    with make_world(folder, 2, socket_path, **settings) as world:
        await asyncio.to_thread(world.results)
        channel = await ReplicaChannel.connect(socket_path)
        signalled(world.processes[1], signal.SIGSTOP)
        await channel.send(CommandMessage(added=[bulk]))
        assert (await anext(aiter(channel))).entering == ["bulk"]  # 32 tokens of its prompt: rank 0 waits for rank 1
        await channel.send(CommandMessage(added=[urgent]))
        signalled(world.processes[1], signal.SIGCONT)
        found = await asyncio.wait_for(gathered(channel, [bulk, urgent], seen), 200)
        await channel.close()
        assert await asyncio.to_thread(world.join) == [0, 0]
    assert found == {"bulk": generated(folder, PROMPTS[4], 200), "urgent": generated(folder, PROMPTS[3])}
    assert seen[-1].num_preemptions_by_swap == 1
    assert seen[-1].num_blocks_swapped_in == seen[-1].num_blocks_swapped_out > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_when_a_rank_hangs_without_dying_rank_0_ends_by_its_watchdog(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    socket_path = tmp_path / "rank0.sock"
    with make_world(tiny_model("llama"), 2, socket_path, step_timeout_s=2.0) as world:
        await asyncio.to_thread(world.results)
        channel = await ReplicaChannel.connect(socket_path)
        signalled(world.processes[1], signal.SIGSTOP)
        await channel.send(CommandMessage(added=[greedy_request("one", [5])]))
        await asyncio.to_thread(world.processes[0].join, 60.0)
        assert world.processes[0].exitcode == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", [0, 1])
async def test_when_a_rank_is_killed_in_mid_answer_the_others_end(
    victim: int, tiny_model: TinyModel, tmp_path: Path
) -> None:
    socket_path = tmp_path / "rank0.sock"
    with make_world(tiny_model("llama"), 2, socket_path) as world:
        await asyncio.to_thread(world.results)
        channel = await ReplicaChannel.connect(socket_path)
        await channel.send(CommandMessage(added=[greedy_request("endless", [5], max_tokens=380)]))
        await anext(aiter(channel))
        world.processes[victim].kill()
        exit_codes = await asyncio.to_thread(world.join, 60.0)
        assert exit_codes[victim] == -9
        assert exit_codes[1 - victim] not in (None, 0)
        assert segments(world) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_when_a_rank_is_killed_while_idle_the_others_end(tiny_model: TinyModel, tmp_path: Path) -> None:
    with make_world(tiny_model("llama"), 3, tmp_path / "rank0.sock") as world:
        await asyncio.to_thread(world.results)
        world.processes[2].kill()
        assert None not in await asyncio.to_thread(world.join, 60.0)


async def test_a_rank_with_the_fake_backend_needs_no_model(tmp_path: Path) -> None:
    config = EngineConfig("fake", "nowhere", backend="fake", fake_step_s=0.0)
    member = Rank(config, 0)
    assert member.load("127.0.0.1", 1).model_name == "fake"
    running = asyncio.create_task(asyncio.to_thread(member.run, str(tmp_path / "rank0.sock")))
    channel = await ReplicaChannel.connect(tmp_path / "rank0.sock")
    found = await asyncio.wait_for(answers(channel, [make_request("one", max_tokens=3)]), 10)
    assert len(found["one"]) == 3
    await channel.close()
    await asyncio.wait_for(running, 10)


def test_running_before_loading_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="rank 1: run was called before load"):
        Rank(EngineConfig("m", "s"), 1).run("nowhere")


def test_a_rank_knows_grammars_over_its_checkpoints_vocabulary(tmp_path: Path) -> None:
    as_checkpoint_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model.safetensors").touch()
    assert Rank(make_config(tmp_path, 1), 0)._grammars.warm().eos_tokens == [1]


def test_a_rank_whose_checkpoint_has_no_tokenizer_serves_without_grammars(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model.safetensors").touch()
    rank = Rank(make_config(tmp_path, 1), 0)
    rank._warm_grammars()
    assert "answers cannot follow a grammar" in caplog.text
    with pytest.raises(GrammarRefused):
        rank._grammars.guide("{}")
