"""The databases on which the contract suites of all ports run.

A suite says ``pytestmark = pytest.mark.usefixtures("each_database")`` and opens what it needs by
`open_database`; it never says which.  A further database is one more line of `DATABASES`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from isocenter.storage.database.database import Database
from isocenter.storage.database.postgresql.database import open_postgresql_database
from isocenter.storage.database.postgresql.opening import Place
from isocenter.storage.database.sqlite.database import open_sqlite_database
from support.postgresql import Server

#: Each opens the database at a path, or an empty one of its own; what is at the path is kept.
Opener = Callable[[Path | None], AbstractAsyncContextManager[Database]]


def _sqlite(path: Path | None) -> AbstractAsyncContextManager[Database]:
    if path is None:
        return open_sqlite_database(":memory:")
    return open_sqlite_database(path, durability="relaxed")


class _Postgresql:
    """Databases of one server, by the path that a test gives them."""

    def __init__(self) -> None:
        self.server: Server | None = None
        self._names: dict[Path, str] = {}

    def __call__(self, path: Path | None) -> AbstractAsyncContextManager[Database]:
        return self._open(path)

    @asynccontextmanager
    async def _open(self, path: Path | None) -> AsyncIterator[Database]:
        assert self.server is not None
        if path is not None and path in self._names:
            name = self._names[path]
        else:
            name = self.server.new_database()
        if path is not None:
            self._names[path] = name
        async with open_postgresql_database(Place(self.server.conninfo(name))) as database:
            yield database
        if path is None:
            self.server.give_back(name)

    def forget(self) -> None:
        """Remove what tests have left."""
        assert self.server is not None
        for name in self._names.values():
            self.server.give_back(name)
        self._names.clear()


POSTGRESQL: Final = _Postgresql()
DATABASES: Final[Mapping[str, Opener]] = {"sqlite": _sqlite, "postgresql": POSTGRESQL}

_chosen: list[Opener] = []


def choose(name: str) -> None:
    """From now on `open_database` opens this one."""
    _chosen[:] = [DATABASES[name]]


def open_database(path: Path | None = None) -> AbstractAsyncContextManager[Database]:
    """The database that the test runs on: at *path*, or an empty one."""
    return _chosen[0](path)
