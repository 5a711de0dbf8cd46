"""The names of what the fuzzing tests are told by their environment: without any, they play in memory, and shortly."""

CASES, URL, MODEL = "FUZZ_CASES", "FUZZ_URL", "FUZZ_MODEL"
