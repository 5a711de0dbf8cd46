"""Owns the environment that every test starts from. Fixtures live beside the tests that use them."""

from __future__ import annotations

import os

from hypothesis import settings

# Hypothesis fails an example that takes 200 ms: an assertion about the machine's load.
settings.register_profile("fastserve", deadline=None)
settings.load_profile("fastserve")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # test processes fork; a pool of threads does not survive that
