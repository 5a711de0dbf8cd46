"""Decides. Pure Python: no Ray, no torch, no asyncio, no clock, no I/O; time and ids come in as arguments."""
