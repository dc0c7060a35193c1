"""Ports of what the index keeps of names beside their text."""

from __future__ import annotations

from typing import Protocol


class NameBook(Protocol):
    """Words and sounds of patients' names, by which they are found."""

    async def write_missing(self) -> bool:
        """Write those of some patients who have none yet; whether there were any.

        Patients have none whom a version wrote that did not know of them.
        """
        ...
