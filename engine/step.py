"""Owns what every rank must know to run one step, and its wire form. Knows nothing of tensors, devices or sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from engine.protocol import Chunk
from scheduling.swap_area import BlockCopies

IntArray: TypeAlias = npt.NDArray[np.int32]
_NUM_HEADER_WORDS = 4


@dataclass(frozen=True, slots=True)
class Step:
    """Chunks as arrays, singles (one token: a decode) first and by context length, so that slices make good batches.

    token_ids: [num_tokens], chunk after chunk. starts, lengths: [num_chunks], position of the first token and their
    number. tables: the blocks of each chunk. rows: tokens (indices into token_ids) whose logits are wanted.
    """

    token_ids: IntArray
    starts: IntArray
    lengths: IntArray
    tables: list[IntArray]
    rows: IntArray

    @property
    def num_singles(self) -> int:
        return int((self.lengths == 1).sum())

    def encode(self) -> IntArray:
        """One flat array: [num_chunks, num_tokens, num_rows, num_table_words, ...the arrays in order]."""
        table_lengths = np.array([len(table) for table in self.tables], np.int32)
        header = [len(self.starts), len(self.token_ids), len(self.rows), int(table_lengths.sum())]
        parts = [self.starts, self.lengths, table_lengths, self.token_ids, self.rows, *self.tables]
        return np.concatenate([np.array(header, np.int32), *parts])

    @staticmethod
    def decode(words: IntArray) -> Step:
        num_chunks, num_tokens, num_rows, num_table_words = words[:_NUM_HEADER_WORDS].tolist()
        sizes = [num_chunks, num_chunks, num_chunks, num_tokens, num_rows, num_table_words]
        ends = np.cumsum([_NUM_HEADER_WORDS, *sizes])
        starts, lengths, table_lengths, token_ids, rows, tables, _ = np.split(words, ends)[1:]
        split_tables = np.split(tables, np.cumsum(table_lengths)[:-1])
        return Step(token_ids=token_ids, starts=starts, lengths=lengths, tables=split_tables, rows=rows)


def encode_copies(copies: BlockCopies) -> IntArray:
    """One flat array, told from a step's by its first word: [0, number of pairs outward, ...all pairs]."""
    header = [0, len(copies.outward)]
    return np.array([*header, *(word for pair in (*copies.outward, *copies.inward) for word in pair)], np.int32)


def decode_words(words: IntArray) -> Step | BlockCopies:
    """What `Step.encode` or `encode_copies` has made: a step has at least one chunk."""
    if words[0] > 0:
        return Step.decode(words)
    pairs = [(first, second) for first, second in words[2:].reshape(-1, 2).tolist()]
    return BlockCopies(outward=pairs[: words[1]], inward=pairs[words[1] :])


@dataclass(frozen=True, slots=True)
class Scheduled:
    """One chunk's rows of the logits: `num_prompt_rows` from `first_row` that tell how likely the prompt was, then, if
    the chunk samples, one for the next token."""

    chunk: Chunk
    first_row: int
    num_prompt_rows: int


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A step, and where each chunk (in the caller's order) finds its logits."""

    step: Step
    scheduled: list[Scheduled]


def arrange(chunks: list[Chunk], block_size: int) -> Arrangement:
    """Orders the chunks for the attention and picks the tokens whose logits are wanted."""
    order = sorted(range(len(chunks)), key=lambda i: (len(chunks[i].token_ids) > 1, chunks[i].start))
    ordered = [chunks[i] for i in order]
    lengths = np.array([len(chunk.token_ids) for chunk in ordered], np.int32)
    offsets = np.cumsum(lengths) - lengths
    rows = [_wanted_rows(chunk, int(offset)) for chunk, offset in zip(ordered, offsets, strict=True)]
    step = Step(
        token_ids=np.concatenate([np.array(chunk.token_ids, np.int32) for chunk in ordered]),
        starts=np.array([chunk.start for chunk in ordered], np.int32),
        lengths=lengths,
        tables=[_used_blocks(chunk, block_size) for chunk in ordered],
        rows=np.concatenate(rows),
    )
    return Arrangement(step=step, scheduled=_in_callers_order(chunks, order))


def _num_prompt_rows(chunk: Chunk) -> int:
    """Tokens of the chunk that another prompt token follows, where the caller wants to know how likely it was."""
    if chunk.sampling.prompt_logprobs is None:
        return 0
    end = chunk.start + len(chunk.token_ids)
    return max(0, min(end, chunk.num_prompt_tokens - 1) - chunk.start)


def _wanted_rows(chunk: Chunk, offset: int) -> IntArray:
    end = offset + len(chunk.token_ids)
    prompt_rows = np.arange(offset, offset + _num_prompt_rows(chunk), dtype=np.int32)
    return np.append(prompt_rows, np.int32(end - 1)) if chunk.samples else prompt_rows


def _used_blocks(chunk: Chunk, block_size: int) -> IntArray:
    """The blocks up to the chunk's last token: a table may hold blocks that are reserved but not written yet."""
    num_blocks = -(-(chunk.start + len(chunk.token_ids)) // block_size)
    if len(chunk.block_table) < num_blocks:
        raise ValueError(f"{chunk.seq_id}: block_table: expected {num_blocks} blocks, got {len(chunk.block_table)}")
    return np.array(chunk.block_table[:num_blocks], np.int32)


def _in_callers_order(chunks: list[Chunk], order: list[int]) -> list[Scheduled]:
    places: dict[int, Scheduled] = {}
    first_row = 0
    for index in order:
        num_prompt_rows = _num_prompt_rows(chunks[index])
        places[index] = Scheduled(chunks[index], first_row, num_prompt_rows)
        first_row += num_prompt_rows + chunks[index].samples
    return [places[index] for index in range(len(chunks))]
