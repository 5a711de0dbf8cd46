"""Tests the arithmetic of what fits, and that a refusal shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine import memory
from engine.config import EngineConfig
from engine.cuda.build import BYTES_PER_GRAPH, reserved_bytes
from engine.memory import (
    InsufficientMemory,
    available_blocks,
    check_weights,
    longest_sequence,
    num_blocks,
    num_swap_slots,
)

CPU = torch.device("cpu")
PLENTY = 1 << 40


def make_config(**overrides: Any) -> EngineConfig:
    return EngineConfig(model_name="m", source="s", **{"max_num_seqs": 4, "parked_limit": 0, **overrides})


@pytest.fixture(autouse=True)
def _a_million_bytes_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1_000_000)


def test_every_sequence_fits_at_its_longest_where_memory_allows() -> None:
    assert num_blocks(make_config(), max_model_len=160, block_bytes=100, available=PLENTY) == 4 * 10


def test_parked_sequences_count_too() -> None:
    assert num_blocks(make_config(parked_limit=2), max_model_len=160, block_bytes=100, available=PLENTY) == 6 * 10


def test_what_is_available_bounds_the_cache() -> None:
    assert num_blocks(make_config(), max_model_len=160, block_bytes=100, available=25) == 25


def test_the_default_on_cpu_stays_under_the_cap_however_much_is_free() -> None:
    assert num_blocks(make_config(), max_model_len=16_384, block_bytes=1 << 20, available=PLENTY) == 2048


def test_one_longest_sequence_may_exceed_the_cap() -> None:
    assert num_blocks(make_config(), max_model_len=160_000, block_bytes=1 << 20, available=PLENTY) == 10_000


def test_an_explicit_size_is_taken_rounded_up_to_whole_blocks() -> None:
    assert num_blocks(make_config(kv_cache_tokens=100), max_model_len=160, block_bytes=100, available=PLENTY) == 7


def test_no_sequence_is_longer_than_the_whole_cache() -> None:
    config = make_config(kv_cache_tokens=100)
    assert longest_sequence(config, max_model_len=160, num_blocks=7) == 112
    assert longest_sequence(config, max_model_len=90, num_blocks=7) == 90


def test_the_ranks_of_a_machine_share_a_quarter_of_its_free_memory() -> None:
    assert available_blocks(make_config(tensor_parallel_size=2), block_bytes=10_000, device=CPU) == 12


def test_an_explicit_size_may_take_all_of_it() -> None:
    assert available_blocks(make_config(kv_cache_tokens=16), block_bytes=10_000, device=CPU) == 100


def test_what_the_weights_will_still_take_is_not_the_caches() -> None:
    config = make_config(kv_cache_tokens=16, tensor_parallel_size=2)
    assert available_blocks(config, block_bytes=10_000, device=CPU, promised_bytes=300_000) == 20
    assert available_blocks(config, block_bytes=10_000, device=CPU, promised_bytes=600_000) == 0


def test_no_room_for_one_sequence_is_an_error_with_the_arithmetic() -> None:
    with pytest.raises(InsufficientMemory, match=r"10 blocks x 100 bytes = 1,000 bytes .* 900 bytes .*max_model_len"):
        num_blocks(make_config(), max_model_len=160, block_bytes=100, available=9)


def test_an_explicit_size_that_does_not_fit_is_an_error_not_a_smaller_cache() -> None:
    with pytest.raises(InsufficientMemory, match=r"20 blocks .* lower kv_cache_tokens"):
        num_blocks(make_config(kv_cache_tokens=320), max_model_len=160, block_bytes=100, available=19)


def test_weights_that_do_not_fit_while_they_load_are_refused_with_the_arithmetic() -> None:
    check_weights(500, num_ranks=2, num_free_bytes=1_000, mapped=False)
    with pytest.raises(InsufficientMemory, match=r"501 bytes x 2 .* = 1,002 bytes .* 1,000 free"):
        check_weights(501, num_ranks=2, num_free_bytes=1_000, mapped=False)


def test_ranks_that_read_the_same_pages_of_a_file_need_its_weights_once() -> None:
    check_weights(1_000, num_ranks=4, num_free_bytes=1_000, mapped=True)
    with pytest.raises(InsufficientMemory, match=r"1,001 bytes x 1 \(the ranks' parts of it\) .* 1,000 free"):
        check_weights(1_001, num_ranks=4, num_free_bytes=1_000, mapped=True)


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert memory.container_bytes(tmp_path) == 600


@pytest.mark.parametrize("limit", ["max\n", None])
def test_without_a_containers_limit_the_machines_memory_counts(tmp_path: Path, limit: str | None) -> None:
    if limit:
        (tmp_path / "memory.max").write_text(limit)
        (tmp_path / "memory.current").write_text("400\n")
    assert memory.container_bytes(tmp_path) > 1 << 50


def test_what_recorded_decodes_will_take_is_not_the_caches() -> None:
    cuda = torch.device("cuda")
    assert available_blocks(make_config(), block_bytes=10_000, device=cuda) == 90
    assert available_blocks(make_config(), block_bytes=10_000, device=cuda, reserved_bytes=500_000) == 45
    assert available_blocks(make_config(), block_bytes=10_000, device=cuda, reserved_bytes=2_000_000) == 0


def test_recorded_decodes_reserve_for_each_graph_the_logits_and_a_block() -> None:
    reserved = reserved_bytes(make_config(max_num_seqs=16), vocab_size=1000, dtype=torch.bfloat16, block_bytes=777)
    assert reserved == 5 * BYTES_PER_GRAPH + 16 * 1000 * (2 + 4) + 777


def test_the_swap_area_holds_the_longest_sequences_that_newcomers_may_park_as_far_as_memory_allows() -> None:
    config = make_config(parked_limit=3)
    assert num_swap_slots(config, max_model_len=160, block_bytes=100, host_free_bytes=PLENTY) == 3 * 10
    assert num_swap_slots(config, max_model_len=160, block_bytes=100, host_free_bytes=16_000) == 20
    shared = make_config(parked_limit=3, tensor_parallel_size=2)
    assert num_swap_slots(shared, max_model_len=160, block_bytes=100, host_free_bytes=16_000) == 10
    assert num_swap_slots(config, max_model_len=160_000, block_bytes=1 << 20, host_free_bytes=PLENTY) == 512


@pytest.mark.parametrize("settings", [{"preemption": "off"}, {"preemption": "recompute"}, {"swap_space_tokens": 0}])
def test_what_never_swaps_has_no_swap_area(settings: dict[str, Any]) -> None:
    assert num_swap_slots(make_config(**settings), max_model_len=160, block_bytes=100, host_free_bytes=PLENTY) == 0


def test_an_explicit_swap_area_is_taken_in_whole_blocks_or_refused_with_the_arithmetic() -> None:
    config = make_config(swap_space_tokens=100, tensor_parallel_size=2)
    assert num_swap_slots(config, max_model_len=160, block_bytes=100, host_free_bytes=1_400) == 7
    with pytest.raises(InsufficientMemory, match=r"7 blocks x 100 bytes x 2 ranks = 1,400 .* 1,399 free"):
        num_swap_slots(config, max_model_len=160, block_bytes=100, host_free_bytes=1_399)
