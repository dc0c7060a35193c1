"""Inspection of the archive that the settings name, without opening it."""

from isocenter.storage.inspection import inspect_archive, inspect_room

__all__ = ["inspect_archive", "inspect_room"]
