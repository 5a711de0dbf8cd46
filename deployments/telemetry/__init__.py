"""Counts: which metrics exist, one process's counts, and the sum of all. Knows nothing of requests or queues."""
