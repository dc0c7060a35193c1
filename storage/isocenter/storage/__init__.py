"""Adapters of the ports that need storage: objects as files, and everything kept in a database."""

from isocenter.storage.database.index.index import SqliteIndex, open_sqlite_index

__all__ = ["SqliteIndex", "open_sqlite_index"]
