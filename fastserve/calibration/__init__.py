"""Measures what the twin's cost model needs: an engine's steps, and what serving adds to them."""
