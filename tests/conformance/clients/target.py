"""Where the service is that the suites of this folder ask, as `tests/conformance/suite.py` tells them."""

from __future__ import annotations

import os

BASE_URL = os.environ["CONFORMANCE_BASE_URL"]
MODEL = os.environ["CONFORMANCE_MODEL"]
OTHER_MODEL = os.environ["CONFORMANCE_OTHER_MODEL"]
TOKENIZER = os.environ["CONFORMANCE_TOKENIZER"]
CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = "The capital of France is Paris."
