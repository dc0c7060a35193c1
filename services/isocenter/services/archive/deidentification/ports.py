"""Port of the mapping that projects of de-identification keep."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from isocenter.services.dicom.deidentification.pseudonyms import PseudonymError


class MappingConflictError(PseudonymError):
    """Pairs that contradict those that a project has."""


class DeidentificationMapping(Protocol):
    """Which UID of a project became which, in both directions."""

    async def pseudonyms(self, project: str, originals: Collection[str]) -> Mapping[str, str]:
        """Of those of *originals* that have one."""
        ...

    async def originals(self, project: str, pseudonyms: Collection[str]) -> Mapping[str, str]:
        """By pseudonym, what stands behind those of *pseudonyms* that somebody knows."""
        ...

    async def original(self, project: str, pseudonym: str) -> str | None:
        """What stands behind *pseudonym*; None: nobody knows."""
        ...

    async def add(self, project: str, pairs: Iterable[tuple[str, str]]) -> int:
        """Note originals and their pseudonyms; how many are new.

        Raises:
            MappingConflictError: one belongs to another already; nothing was noted.
        """
        ...

    async def page(self, project: str, after: str, limit: int) -> Sequence[tuple[str, str]]:
        """Pairs in the order of their originals, behind *after*."""
        ...

    async def count(self, project: str) -> int:
        """How many there are."""
        ...
