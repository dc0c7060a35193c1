"""Events that are being written are missed by nobody who reads meanwhile."""

from __future__ import annotations

import threading

import trio

from isocenter.services.workflow.events.event import WorklistChanged
from isocenter.storage.database.database import Connection
from isocenter.storage.database.events.outbox import DatabaseOutbox, insert_event
from isocenter.storage.database.postgresql.database import open_postgresql_database
from isocenter.storage.database.postgresql.opening import Place
from support.postgresql import Server

DEADLINE = 60
KINDS = ("worklist.changed",)


def event() -> WorklistChanged:
    return WorklistChanged(
        study_instance_uid="1.2",
        entry_number=1,
        scheduled_step_id="S1",
        accession_number="A1",
        state="SCHEDULED",
    )


async def test_a_position_does_not_pass_what_is_not_yet_committed(
    postgresql_server: Server,
) -> None:
    place = Place(postgresql_server.conninfo(postgresql_server.new_database()))
    written, may_end = threading.Event(), threading.Event()

    def slowly(connection: Connection) -> None:
        try:
            insert_event(connection, event(), 0)
        finally:
            written.set()
        may_end.wait(DEADLINE)

    with trio.fail_after(DEADLINE):
        async with (
            open_postgresql_database(place) as database,
            open_postgresql_database(place) as elsewhere,
            trio.open_nursery() as nursery,
        ):
            outbox = DatabaseOutbox(database)
            await outbox.begin(["viewer"])
            nursery.start_soon(elsewhere.write, slowly)
            await trio.to_thread.run_sync(written.wait)
            try:
                assert await outbox.route("viewer", KINDS, 0) == 0
            finally:
                may_end.set()
            while not (reached := await outbox.route("viewer", KINDS, 0)):
                await trio.lowlevel.checkpoint()
            assert reached == 1
            (lane,) = await outbox.lanes("viewer", 10, failing=False, not_for=())
            assert lane.study_instance_uid == "1.2"
