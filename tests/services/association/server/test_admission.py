"""Who waits for a change of connections gets to know of each that is closed."""

from __future__ import annotations

import trio
import trio.testing

from isocenter.services.association.server.admission import Admission, Connection, ServerLimits


async def test_a_closed_connection_wakes_who_waits() -> None:
    admission = Admission(ServerLimits())
    first, second = Connection("192.0.2.1", "192.0.2.1:1"), Connection("192.0.2.2", "192.0.2.2:2")
    admission.add(first)
    admission.add(second)
    left: list[int] = []

    async def wait_for_all() -> None:
        while admission.connections:
            await admission.wait_for_change()
            left.append(len(admission.connections))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_all)
        for connection in (first, second):
            await trio.testing.wait_all_tasks_blocked()
            admission.remove(connection)
    assert left == [1, 0]
