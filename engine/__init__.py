"""Computes. The only home of torch, transformers and deepspeed."""
