"""Owns what the queue is told of a prompt instead of the prompt: hashes that are the same in every ingress."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

from scheduling.affinity import MAX_PREFIXES, PREFIX_TOKENS

_DIGEST_BYTES = 8


def content_of(token_ids: Sequence[int]) -> str:
    """What tells one prompt from others."""
    return _hash(b"", token_ids).hexdigest()


def prefixes_of(token_ids: Sequence[int], salt: str) -> tuple[str, ...]:
    """One hash for each beginning, a step longer each; whoever has another salt shares none.

    The last token is left out: its logits are needed, so that a cache never serves all of a prompt.
    """
    state = _hash(salt.encode(), ())
    prefixes = []
    for end in range(PREFIX_TOKENS, min(len(token_ids) - 1, MAX_PREFIXES * PREFIX_TOKENS) + 1, PREFIX_TOKENS):
        state.update(_bytes(token_ids[end - PREFIX_TOKENS : end]))
        prefixes.append(state.hexdigest())
    return tuple(prefixes)


def _hash(start: bytes, token_ids: Sequence[int]) -> hashlib.blake2b:
    state = hashlib.blake2b(start, digest_size=_DIGEST_BYTES)
    state.update(_bytes(token_ids))
    return state


def _bytes(token_ids: Sequence[int]) -> bytes:
    return array("q", token_ids).tobytes()
