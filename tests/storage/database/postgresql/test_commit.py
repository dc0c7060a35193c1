"""A COMMIT whose answer is lost: whether it was done is found out, and not guessed."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio

from isocenter.services.errors import StorageError
from isocenter.storage.database.database import Connection
from isocenter.storage.database.postgresql.database import open_postgresql_database
from isocenter.storage.database.postgresql.opening import Place
from support.postgresql import Server

DEADLINE = 60
_SOCKET = ".s.PGSQL.5432"


class Relay:
    """Stands before a server, and cuts the connection at the next COMMIT that it is to lose.

    Attributes:
        loses: ``answer``: PostgreSQL gets the COMMIT and answers, and nobody hears it;
            ``question``: PostgreSQL never gets it; empty: all goes through.
    """

    def __init__(self, folder: Path, server: Path) -> None:
        self.loses = ""
        self._server = str(server / _SOCKET)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / _SOCKET))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Once all who came through it have gone."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._relay, args=(near,)))
                self._threads[-1].start()

    def _relay(self, near: socket.socket) -> None:
        with near, socket.socket(socket.AF_UNIX) as far, suppress(OSError):
            far.connect(self._server)
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is far:
                        near.sendall(data)
                        continue
                    if b"COMMIT" in data and self.loses:
                        loses, self.loses = self.loses, ""
                        if loses == "answer":
                            far.sendall(data)
                            far.recv(65536)
                        return
                    far.sendall(data)


@contextmanager
def relayed(server: Server, tmp_path: Path) -> Iterator[tuple[Relay, Place]]:
    """A relay, and the way to a new database through it."""
    relay = Relay(tmp_path, server.folder)
    conninfo = server.conninfo(server.new_database())
    try:
        yield relay, Place(psycopg.conninfo.make_conninfo(conninfo, host=str(tmp_path)))
    finally:
        relay.close()


def hold(connection: Connection) -> str:
    connection.execute(
        "INSERT INTO study_hold (study_instance_uid, reason, actor, at) VALUES ('1.2', '', '', 0)"
    )
    return "done"


def held(connection: Connection) -> list[Any]:
    return [uid for (uid,) in connection.execute("SELECT study_instance_uid FROM study_hold")]


async def test_what_was_committed_is_done_although_the_answer_was_lost(
    postgresql_server: Server, tmp_path: Path
) -> None:
    with trio.fail_after(DEADLINE), relayed(postgresql_server, tmp_path) as (relay, place):
        async with open_postgresql_database(place) as database:
            relay.loses = "answer"
            assert await database.write(hold) == "done"
            assert await database.read(held) == ["1.2"]


async def test_what_was_not_committed_is_an_error(
    postgresql_server: Server, tmp_path: Path
) -> None:
    with trio.fail_after(DEADLINE), relayed(postgresql_server, tmp_path) as (relay, place):
        async with open_postgresql_database(place) as database:
            relay.loses = "question"
            with pytest.raises(StorageError, match="does not answer"):
                await database.write(hold)
            assert await database.read(held) == []
            assert await database.write(hold) == "done"
