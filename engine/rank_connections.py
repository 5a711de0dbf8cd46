"""Owns how rank 0 and every other rank of a replica come to have a connection. Knows nothing of what goes over it."""

from __future__ import annotations

import socket

from engine.process_group import World

CONNECT_TIMEOUT_S = 60.0


def connect_ranks(world: World, master_addr: str) -> list[socket.socket]:
    """On rank 0 a connection to each other rank, on these one to rank 0; all ranks must call it.

    Small messages leave at once. Raises OSError where a rank does not come.
    """
    if world.rank == 0:
        with socket.create_server((master_addr, 0), backlog=world.size) as server:
            server.settimeout(CONNECT_TIMEOUT_S)
            world.gathered(server.getsockname()[1])
            connections = [server.accept()[0] for _ in range(world.size - 1)]
    else:
        port = world.gathered(0)[0]
        connections = [socket.create_connection((master_addr, port), CONNECT_TIMEOUT_S)]
    for connection in connections:
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connections
