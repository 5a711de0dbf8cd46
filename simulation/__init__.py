"""The digital twin: the real scheduling code on virtual time. Pure Python; everything random comes from a seed."""
