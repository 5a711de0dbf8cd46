"""The public face: ModelServer, Task and the `fastserve` command."""
