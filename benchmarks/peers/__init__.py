"""Measures FastServe beside its peers: the same work, on the same cores, in the same run, in turn. Ratios result."""
