"""Backends: implementations of `engine.protocol.InferenceEngine`."""
