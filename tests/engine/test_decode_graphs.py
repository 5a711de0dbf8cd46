"""Tests that recorded decodes, padded to their bucket, give what the same step gives eagerly, and disturb nobody."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from engine.cuda.decode_graphs import DecodeGraphs, NotCapturable
from engine.cuda.scratch import CacheWithScratch
from engine.process_group import World
from engine.runner import ModelRunner
from engine.step import arrange
from scheduling.kv_blocks import BlockPool
from tests.engine.chunks import make_chunk
from tests.engine.playing import (
    BLOCK_SIZE,
    CPU,
    Played,
    assert_played_like,
    load_reference,
    make_played,
    play,
    play_step,
)
from tests.engine.recorded import MAX_MODEL_LEN, attend_as_one_operator, make_recorded_runner
from tests.engine.runner_checks import check_a_neighbour_full_of_nan_does_no_harm
from tests.engine.tape import TapeRecorder

TinyModel = Callable[[str], Path]


def decode_to_the_end(runner: ModelRunner, sequences: list[Played]) -> None:
    """All of each prompt but four tokens eagerly, then the four by decodes."""
    play_step(runner.run, sequences, [len(each.token_ids) - 4 for each in sequences])
    for _ in range(4):
        play_step(runner.run, sequences, [1] * len(sequences))


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "phi"])
def test_a_mix_of_eager_and_replayed_steps_gives_the_logits_of_a_plain_pass(family: str, tiny_model: TinyModel) -> None:
    recorder = TapeRecorder()
    sequences = make_played([1, 9, 16, 33, 70, 200, 12])
    play(make_recorded_runner(tiny_model(family), recorder).run, sequences)
    assert_played_like(load_reference(tiny_model(family)), sequences)
    assert recorder.num_replays > 0


@pytest.mark.parametrize("num_rows", range(1, 9))
def test_every_number_of_rows_is_replayed_in_its_bucket(num_rows: int, tiny_model: TinyModel) -> None:
    recorder = TapeRecorder()
    sequences = make_played([20 + 7 * index for index in range(num_rows)])
    decode_to_the_end(make_recorded_runner(tiny_model("llama"), recorder), sequences)
    assert_played_like(load_reference(tiny_model("llama")), sequences)
    assert recorder.num_replays == 4


def test_a_row_that_leaves_disturbs_no_row_that_stays(tiny_model: TinyModel) -> None:
    runner = make_recorded_runner(tiny_model("llama"), TapeRecorder())
    sequences = make_played([40] * 8)
    play_step(runner.run, sequences, [30] * 8)
    for num_left in (8, 5, 3, 3, 2, 1):
        play_step(runner.run, sequences[:num_left], [1] * num_left)
    assert_played_like(load_reference(tiny_model("llama")), sequences)


def test_a_sequence_that_is_computed_again_in_other_blocks_goes_on_as_before(tiny_model: TinyModel) -> None:
    runner = make_recorded_runner(tiny_model("llama"), TapeRecorder())
    sequences = make_played([40, 40])
    play_step(runner.run, sequences, [30, 30])
    play_step(runner.run, sequences, [1, 1])
    preempted = sequences[0]
    preempted.block_table, preempted.num_computed = [60, 61, 62], 0
    play_step(runner.run, sequences, [31, 1])
    play_step(runner.run, sequences, [1, 1])
    assert_played_like(load_reference(tiny_model("llama")), sequences)


def test_a_neighbour_full_of_nan_does_no_harm_to_a_replayed_row(tiny_model: TinyModel) -> None:
    runner = make_recorded_runner(tiny_model("llama"), TapeRecorder())

    def poison(blocks: list[int]) -> None:
        runner.cache.layers[0].keys[blocks] = float("nan")

    check_a_neighbour_full_of_nan_does_no_harm(runner.run, poison, load_reference(tiny_model("llama")))


def written_blocks(runner: ModelRunner) -> set[int]:
    keys = runner.cache.layers[0].keys
    return set(torch.nonzero(keys.flatten(1).any(1)).flatten().tolist())


def test_recording_and_padding_write_to_the_scratch_block_alone(tiny_model: TinyModel) -> None:
    runner = make_recorded_runner(tiny_model("llama"), TapeRecorder(), num_blocks=16)
    assert written_blocks(runner) == {16}
    chunks = [make_chunk(str(block), start=5, block_table=[block]) for block in (3, 7, 8)]
    runner.run(arrange(chunks, BLOCK_SIZE).step)
    assert written_blocks(runner) == {3, 7, 8, 16}


def test_no_pool_hands_out_the_scratch_block(tiny_model: TinyModel) -> None:
    cache = make_recorded_runner(tiny_model("llama"), TapeRecorder(), num_blocks=16).cache
    pool = BlockPool(cache.num_blocks, cache.block_size)
    assert pool.num_blocks == 16
    assert len(cache.layers[0].keys) == 17


def test_a_scratch_block_full_of_nan_does_no_harm(tiny_model: TinyModel) -> None:
    runner = make_recorded_runner(tiny_model("llama"), TapeRecorder())
    for layer in runner.cache.layers:
        layer.keys[runner.cache.num_blocks] = float("nan")
        layer.values[runner.cache.num_blocks] = float("nan")
    sequences = make_played([20, 30, 40, 50, 60])
    decode_to_the_end(runner, sequences)
    assert_played_like(load_reference(tiny_model("llama")), sequences)


def test_steps_that_are_no_plain_decodes_run_eagerly(tiny_model: TinyModel) -> None:
    recorder = TapeRecorder()
    runner = make_recorded_runner(tiny_model("llama"), recorder)
    decode = make_chunk("a", start=5)
    for chunks in (
        [decode, make_chunk("b", length=3, block_table=[9])],
        [decode, make_chunk("b", start=7, block_table=[9], samples=False)],
        [make_chunk(str(i), start=5, block_table=[i]) for i in range(9)],
        [make_chunk("long", start=MAX_MODEL_LEN, block_table=list(range(20)))],
    ):
        runner.run(arrange(chunks, BLOCK_SIZE).step)
    assert recorder.num_replays == 0
    runner.run(arrange([decode], BLOCK_SIZE).step)
    assert recorder.num_replays == 1


def test_a_model_that_cannot_be_recorded_runs_eagerly_and_the_log_says_why(
    tiny_model: TinyModel, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = TapeRecorder()
    with caplog.at_level(logging.WARNING):
        runner = make_recorded_runner(tiny_model("gemma2"), recorder)
    assert ["layer 0 caps its scores" in message for message in caplog.messages] == [True]
    sequences = make_played([20, 30])
    decode_to_the_end(runner, sequences)
    assert_played_like(load_reference(tiny_model("gemma2")), sequences)
    assert recorder.num_replays == 0


def test_work_that_waits_for_the_device_is_not_recorded() -> None:
    tensor = torch.ones(3)
    with pytest.raises(NotCapturable, match="waits for the device"):
        TapeRecorder().record(lambda: tensor.mul_(float(tensor.sum())))  # type: ignore[arg-type, return-value]


@dataclass(frozen=True, slots=True)
class WorldWithAFailingRank(World):
    """The other rank can record nothing."""

    def gathered(self, value: int) -> list[int]:
        return [value, 0]


def test_no_rank_replays_where_another_cannot_record(tiny_model: TinyModel, caplog: pytest.LogCaptureFixture) -> None:
    world = WorldWithAFailingRank(rank=0, size=2, device=CPU, loading=None)  # type: ignore[arg-type]
    recorder = TapeRecorder()
    runner = make_recorded_runner(tiny_model("llama"), recorder, world=world)
    runner.run(arrange([make_chunk()], BLOCK_SIZE).step)
    assert recorder.num_replays == 0
    assert "a batch of 8: another rank cannot" in caplog.text


def test_the_largest_batch_is_recorded_first() -> None:
    sizes: list[int] = []

    def note(token_ids: torch.Tensor, *_: object) -> torch.Tensor:
        sizes.append(token_ids.shape[1])
        return torch.zeros(token_ids.shape[1], 2)

    cache = CacheWithScratch([], 4, BLOCK_SIZE, torch.float32, CPU)
    graphs = DecodeGraphs(cache, (1, 2, 4), MAX_MODEL_LEN, torch.zeros(4, 2))
    graphs.record(note, attend_as_one_operator, TapeRecorder(), agree=lambda ok: ok)
    assert sizes == [4, 4, 2, 2, 1, 1]
    assert graphs.num_graphs == 3
