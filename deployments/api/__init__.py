"""Speaks HTTP: from a request's body to the last byte of its answer. Knows no Ray; the cluster is handed in."""
