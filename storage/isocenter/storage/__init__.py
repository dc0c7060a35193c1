"""Adapters of the ports that need storage: objects as files, and everything kept in a database."""

from isocenter.storage.stores import Stores, StoresOptions, open_sqlite_stores

__all__ = ["Stores", "StoresOptions", "open_sqlite_stores"]
