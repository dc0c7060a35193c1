"""Migration: one step of the schema, from the version before to its own."""

from __future__ import annotations

import re
from typing import Final

from isocenter.engine.fast_init import dataclass

_TABLE: Final = re.compile(r"CREATE TABLE (\w+)")
_INDEX: Final = re.compile(r"CREATE (?P<unique>UNIQUE )?INDEX \w+ ON (?P<table>\w+)")
_REFERENCE: Final = re.compile(r"REFERENCES (\w+)(?: \([^)]*\))?(?P<cascades> ON DELETE CASCADE)?")
_COLUMN: Final = re.compile(r"ALTER TABLE \w+ ADD COLUMN ")
_COMMENT: Final = re.compile(r"--[^\n]*")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: from version - 1 to *version*.

    Attributes:
        expands: programs that know nothing of it go on with the database; None: as its
            statements look.
        can_wait: programs that know it go on without it, so it waits until none is left that does
            not; it does not where one that comes later cannot.
    """

    version: int
    description: str
    statements: tuple[str, ...]
    expands: bool | None = None
    can_wait: bool = False

    @property
    def is_expansion(self) -> bool:
        """Whether programs that know nothing of it go on with the database."""
        if self.expands is not None:
            return self.expands
        made: set[str] = set()
        return all(_only_adds(statement, made) for statement in self.statements)


def _only_adds(statement: str, made: set[str]) -> bool:
    """Whether nobody notices a *statement* who does not know it; tables that were made before."""
    text = " ".join(_COMMENT.sub("", statement).split())
    if table := _TABLE.match(text):
        made.add(table[1])
        # Who does not know the rows could not delete what they refer to.
        return all(found["cascades"] or found[1] in made for found in _REFERENCE.finditer(text))
    if index := _INDEX.match(text):
        return index["unique"] is None or index["table"] in made
    # A column that is not null has a value in rows of which the writer does not know it.
    has_value = "NOT NULL" not in text or " DEFAULT " in text
    return bool(_COLUMN.match(text)) and has_value and "REFERENCES" not in text
