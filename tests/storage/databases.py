"""The databases on which the contract suites of all ports run.

A suite says ``pytestmark = pytest.mark.usefixtures("each_database")`` and opens what it needs by
`open_database`; it never says which.  A second database is one more line of `DATABASES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from isocenter.storage.database.database import Database
from isocenter.storage.database.sqlite.database import open_sqlite_database

#: Each opens the database at a path, or an empty one of its own; what is at the path is kept.
Opener = Callable[[Path | None], AbstractAsyncContextManager[Database]]


def _sqlite(path: Path | None) -> AbstractAsyncContextManager[Database]:
    if path is None:
        return open_sqlite_database(":memory:")
    return open_sqlite_database(path, durability="relaxed")


DATABASES: Final[Mapping[str, Opener]] = {"sqlite": _sqlite}

_chosen: list[Opener] = []


def choose(name: str) -> None:
    """From now on `open_database` opens this one."""
    _chosen[:] = [DATABASES[name]]


def open_database(path: Path | None = None) -> AbstractAsyncContextManager[Database]:
    """The database that the test runs on: at *path*, or an empty one."""
    return _chosen[0](path)
