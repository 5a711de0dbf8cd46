"""Hashes instead of prompts: equal beginnings have equal hashes, and nothing else has."""

from __future__ import annotations

from deployments.api.prompt_identity import content_of, prefixes_of
from scheduling.affinity import MAX_PREFIXES, PREFIX_TOKENS

PROMPT = list(range(3 * PREFIX_TOKENS + 1))


def test_a_prompt_has_a_hash_for_each_whole_step_before_its_last_token() -> None:
    assert [len(prefixes_of(PROMPT[:length], "")) for length in (1, PREFIX_TOKENS, PREFIX_TOKENS + 1)] == [0, 0, 1]
    assert len(prefixes_of(PROMPT, "")) == 3
    assert len(prefixes_of(list(range(100 * PREFIX_TOKENS)), "")) == MAX_PREFIXES


def test_prompts_that_begin_alike_share_those_hashes_and_no_more() -> None:
    other = [*PROMPT[: 2 * PREFIX_TOKENS], *[7] * (PREFIX_TOKENS + 1)]
    ours, theirs = prefixes_of(PROMPT, ""), prefixes_of(other, "")
    assert ours[:2] == theirs[:2]
    assert ours[2] != theirs[2]


def test_tenants_share_nothing() -> None:
    assert not set(prefixes_of(PROMPT, "a")) & set(prefixes_of(PROMPT, "b"))


def test_a_prompt_is_known_again_and_not_taken_for_another() -> None:
    assert content_of(PROMPT) == content_of(list(PROMPT))
    assert content_of(PROMPT) != content_of([*PROMPT, 0])
