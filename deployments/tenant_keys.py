"""Owns what may stand for an API key in the settings, its digest, and that no message shows it. Knows no HTTP."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence

SHA256_PREFIX = "sha256:"
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
_NUM_ACCOUNT_DIGITS = 16


def checked_key(key: str) -> str:
    """A plain key as it is, or `sha256:` and a digest that can be one: a shorter one would let nobody in."""
    if key.startswith(SHA256_PREFIX) and not _SHA256.fullmatch(key.removeprefix(SHA256_PREFIX)):
        raise ValueError(f"{SHA256_PREFIX} and 64 hex digits, which is what a key's SHA-256 has")
    return key


def new_key() -> str:
    """A key that nobody can guess: 256 random bits."""
    return f"fs-{secrets.token_urlsafe(32)}"


def digest_of(key: bytes) -> str:
    """Of a key in UTF-8, as a client sends it. One round is enough for random keys; it is no way to keep passwords."""
    return hashlib.sha256(key).hexdigest()


def configured_digest(key: str) -> str:
    """Of a key as it stands in the settings."""
    return key.removeprefix(SHA256_PREFIX).lower() if key.startswith(SHA256_PREFIX) else digest_of(key.encode())


def account_of(digest: str) -> str:
    """What the queue knows a key by: enough of its digest to tell it from others, too little to be asked with."""
    return digest[:_NUM_ACCOUNT_DIGITS]


def without_key(location: Sequence[int | str], settings: object) -> tuple[int | str, ...]:
    """`("tenants", KEY, ...)` with the key's place in `settings` instead of the key. Other locations stay.

    A key that is no text, as half a surrogate pair is none, is not found again: of it only `tenants` is left.
    """
    if len(location) < 2 or location[0] != "tenants" or not isinstance(settings, dict):
        return tuple(location)
    keys = [str(key) for key in settings["tenants"]]
    if str(location[1]) not in keys:
        return ("tenants",)
    return ("tenants", keys.index(str(location[1])), *(step for step in location[2:] if step != "[key]"))


def is_key(location: Sequence[int | str]) -> bool:
    """Whether the value at `location` may be a key by itself, or all of them."""
    return location == ("tenants",) or (location[:1] == ("tenants",) and location[-1:] == ("[key]",))
