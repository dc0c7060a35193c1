"""Archive as callers of a project of de-identification see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import trio

from isocenter.services.archive.deidentification.index_view import (
    DeidentifiedIndex,
    PseudonymousInstance,
    original_of,
)
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.archive.deidentification.service import (
    Deidentification,
    NotDeidentifiedError,
)
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import ReadableArchive, ReadLocks, ReadStore
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.archive.tiers.ports import MatchAvailabilities
from isocenter.services.dicom.kept_objects import KeptObjects
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject

#: Objects that were made last, and are asked for again as soon as the next frame is wanted.
_KEPT: Final = 4
#: Bytes of them together; larger ones are made each time.
_MOST_KEPT: Final = 256 << 20


class DeidentifiedArchive:
    """A `ReadableArchive` of de-identified objects over one of originals."""

    def __init__(
        self, archive: ReadableArchive, service: Deidentification, project: Project
    ) -> None:
        self._archive = archive
        self._service = service
        self._project = project
        self.index = DeidentifiedIndex(archive.index, service, project)
        self.store: ReadStore = _MadeObjects()
        self.locks: ReadLocks = _OriginalLocks(archive.locks, service, project)
        self._made = KeptObjects(_KEPT, _MOST_KEPT)

    @property
    def project(self) -> str:
        """As whose callers see it."""
        return self._project.name

    @property
    def check_on_line(self) -> Callable[[Sequence[StoredInstance]], Awaitable[None]] | None:
        """See `Archive.check_on_line`; and whether the first can be de-identified."""
        return self._check_on_line

    @property
    def availabilities(self) -> MatchAvailabilities | None:
        """Nobody is told of tiers: these know originals."""
        return None

    async def until_corrected(self) -> None:
        """See `Archive.until_corrected`."""
        await self._archive.until_corrected()

    async def open(self, stored: StoredInstance) -> ObjectReader:
        """See `Archive.open`; of what was made.

        Raises:
            NotDeidentifiedError: it cannot be.
        """
        if not isinstance(stored, PseudonymousInstance):
            raise NotDeidentifiedError("it is no object of the project")
        original = stored_object(stored.original, self._archive.open)
        item = await self._service.deidentified(original, self._project)
        return await self._made.open(stored.digest, item.open)

    def opened(self, stored: StoredInstance, reader: ObjectReader) -> ObjectReader:
        """See `Archive.opened`; nothing is opened ahead here."""
        return reader

    async def compressed_since(self, stored: StoredInstance) -> StoredInstance | None:
        """See `Archive.compressed_since`."""
        now = await self._archive.compressed_since(original_of(stored))
        if now is None:
            return None
        found = await self.index.get([stored.sop_instance_uid])
        return found.get(stored.sop_instance_uid)

    def leaving_syntax(self, stored: StoredInstance, destination: str) -> str:
        """See `Archive.leaving_syntax`."""
        return stored.transfer_syntax_uid

    async def leaving(
        self, item: DicomObject, destination: str, *, signs: bool = True
    ) -> DicomObject:
        """See `Archive.leaving`.

        Raises:
            NotDeidentifiedError: *destination* is given objects of another project.
        """
        other = self._service.project_of_destination(destination)
        if other is not None and other.name != self._project.name:
            raise NotDeidentifiedError(
                f"{destination} belongs to the project {other.name}, and who asks to "
                f"{self._project.name}"
            )
        return self.signed(item, destination) if signs else item

    def signed(self, item: DicomObject, destination: str) -> DicomObject:
        """See `Archive.signed`."""
        return self._archive.signed(item, destination)

    def close(self) -> None:
        """Let go of what was made."""
        self._made.close()

    async def _check_on_line(self, instances: Sequence[StoredInstance]) -> None:
        if self._archive.check_on_line is not None:
            await self._archive.check_on_line([original_of(one) for one in instances])
        for stored in instances[:1]:
            # What cannot be is told before a response begins, where it concerns them all.
            async with await self.open(stored):
                pass


class _MadeObjects:
    """A `ReadStore` in which nothing lies: all is made when it is opened."""

    async def open_ahead(
        self, keys: Sequence[str], *, reads: bool = True
    ) -> Sequence[ObjectReader | None]:
        """See `ObjectStore.open_ahead`."""
        await trio.lowlevel.checkpoint()
        return [None] * len(keys)

    async def missing(self, keys: Sequence[str]) -> frozenset[str]:
        """See `ObjectStore.missing`; opening says it."""
        await trio.lowlevel.checkpoint()
        return frozenset()


class _OriginalLocks(ReadLocks):
    """Locks of studies that are named by their pseudonyms."""

    def __init__(self, locks: ReadLocks, service: Deidentification, project: Project) -> None:
        self._locks = locks
        self._service = service
        self._project = project

    @property
    def generation(self) -> int:
        """See `ReadLocks.generation`."""
        return self._locks.generation

    async def begin(
        self, studies: Collection[str], reader: str, *, wait: float | None = None
    ) -> Callable[[], None]:
        """See `StudyLocks.begin`."""
        originals = await self._service.originals(self._project, studies)
        return await self._locks.begin(set(originals.values()), reader, wait=wait)
