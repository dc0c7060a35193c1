"""Where objects and their index are kept: adapters for the ports of `isocenter.services.archive.ports`."""

from isocenter.storage.database.index.index import SqliteIndex, open_sqlite_index

__all__ = ["SqliteIndex", "open_sqlite_index"]
