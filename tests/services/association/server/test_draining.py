"""A server that drains: whoever is connected is served, nobody else."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from isocenter.services.association.server import Server, serve_on
from isocenter.services.association.service_registry import ServiceRegistry
from isocenter.services.net.listeners import ListenAddress, open_listener
from isocenter.services.service_classes.verification import VERIFICATION, VerificationScp
from support.raw import RawPeer
from support.serving import port_of, serving


async def test_whoever_waits_to_be_accepted_is_served() -> None:
    async with serving(VerificationScp()) as server:
        # All at once for the server: connected, and not accepted yet.
        waiting = [socket.create_connection(("127.0.0.1", port_of(server))) for _ in range(3)]
        server.drain()
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(OSError):
            await trio.open_tcp_stream("127.0.0.1", port_of(server))
        for sock in waiting:
            sock.setblocking(False)
            peer = RawPeer(trio.SocketStream(trio.socket.from_stdlib_socket(sock)))
            await peer.associate(VERIFICATION)
            assert not server.stopped.is_set()
            await peer.release()
        with trio.fail_after(60):
            await server.stopped.wait()
        assert server.statistics.connections == 3


async def test_processes_with_the_same_listener_leave_together() -> None:
    address = ListenAddress(host="127.0.0.1", port=0)
    (first,) = open_listener(address)
    second = first.dup()
    second.setblocking(False)
    registry = ServiceRegistry([VerificationScp()])
    async with trio.open_nursery() as nursery:
        servers: list[Server] = [
            await nursery.start(serve_on, registry, [(listener, address)])
            for listener in (first, second)
        ]
        servers[0].drain()
        with trio.fail_after(60):
            for server in servers:
                await server.stopped.wait()
    assert servers[1].is_leaving
