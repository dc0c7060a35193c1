"""Migration: one step of the schema, from the version before to its own."""

from __future__ import annotations

from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: from version - 1 to *version*."""

    version: int
    description: str
    statements: tuple[str, ...]
