"""Owns what the batcher asks of whoever keeps the KV cache's blocks. Keeps none itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from scheduling.kv_blocks import PrefixMatch
from scheduling.swap_area import SwapArea


class BlockAccount(Protocol):
    """Every method means what it means in `scheduling.kv_blocks.BlockPool`, which knows each block by its content."""

    num_blocks: int
    block_size: int
    swap: SwapArea

    @property
    def num_free(self) -> int: ...

    @property
    def is_half_free(self) -> bool: ...

    def num_blocks_for(self, num_tokens: int) -> int: ...

    def num_held(self, owner: str) -> int: ...

    def num_shared(self, owner: str) -> int: ...

    def block_table(self, owner: str) -> list[int]: ...

    def match_prefix(self, token_ids: Sequence[int], salt: str = "") -> PrefixMatch: ...

    def num_lacking(
        self, num_tokens: int, match: PrefixMatch, headroom: int = 0, given_up: Collection[str] = ()
    ) -> int: ...

    def allocate(self, owner: str, num_tokens: int, match: PrefixMatch, salt: str = "") -> bool: ...

    def extend(self, owner: str, num_tokens: int) -> bool: ...

    def record(self, owner: str, token_ids: Sequence[int], num_computed: int) -> None: ...

    def free(self, owner: str, *, forget: bool = False) -> None: ...
