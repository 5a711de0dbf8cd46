"""Carries tokens from replicas to ingresses: a connection for each pair, a message a step. Knows no Ray and no HTTP."""
