"""Adapters of the ports that need storage: object files and databases."""

from isocenter.storage.stores import Stores, StoresOptions, open_sqlite_stores

__all__ = ["Stores", "StoresOptions", "open_sqlite_stores"]
