"""Archive as it is searched and retrieved from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from isocenter.services.archive.index.query import FoundPage, Page, Query
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.tiers.ports import MatchAvailabilities
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject


class SearchedIndex(Protocol):
    """What of an `Index` searches and retrievals ask."""

    async def get(self, sop_instance_uids: Sequence[str]) -> Mapping[str, StoredInstance]:
        """See `Index.get`."""
        ...

    def find(
        self, query: Query
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Mapping[int, str]]]]:
        """See `Index.find`."""
        ...

    async def find_page(self, query: Query, page: Page) -> FoundPage:
        """See `Index.find_page`."""
        ...

    def instances(
        self, query: Query | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[StoredInstance]]]:
        """See `Index.instances`."""
        ...


class ReadStore(Protocol):
    """What of an `ObjectStore` retrievals ask."""

    async def open_ahead(
        self, keys: Sequence[str], *, reads: bool = True
    ) -> Sequence[ObjectReader | None]:
        """See `ObjectStore.open_ahead`."""
        ...

    async def missing(self, keys: Sequence[str]) -> frozenset[str]:
        """See `ObjectStore.missing`."""
        ...


class ReadLocks(ABC):
    """What of `StudyLocks` retrievals ask."""

    @property
    @abstractmethod
    def generation(self) -> int:
        """Another one than before: some study may have been changed."""

    @abstractmethod
    async def begin(
        self, studies: Collection[str], reader: str, *, wait: float | None = None
    ) -> Callable[[], None]:
        """From now on nobody changes the studies, until what is returned is called.

        Args:
            reader: who reads, for those who wait for it.
            wait: seconds that a lock is waited for.

        Raises:
            StudyLockedError: somebody changes one of them.
            StorageError: other processes cannot be told.

        When they were told too long ago, opening an object fails (`check_reading`).
        """

    @asynccontextmanager
    async def reading(
        self, studies: Collection[str], reader: str, *, wait: float | None = None
    ) -> AsyncIterator[None]:
        """While it lasts nobody changes the studies; arguments and errors are those of `begin`."""
        end = await self.begin(studies, reader, wait=wait)
        try:
            yield
        finally:
            end()


class ReadableArchive(Protocol):
    """An `Archive`, or what callers of a project of de-identification have of it."""

    @property
    def project(self) -> str:
        """As whose callers see it; empty: as it is."""
        ...

    @property
    def index(self) -> SearchedIndex: ...

    @property
    def store(self) -> ReadStore: ...

    @property
    def locks(self) -> ReadLocks: ...

    @property
    def check_on_line(self) -> Callable[[Sequence[StoredInstance]], Awaitable[None]] | None:
        """See `Archive.check_on_line`."""
        ...

    @property
    def availabilities(self) -> MatchAvailabilities | None:
        """See `Archive.availabilities`."""
        ...

    async def until_corrected(self) -> None:
        """See `Archive.until_corrected`."""
        ...

    async def open(self, stored: StoredInstance) -> ObjectReader:
        """See `Archive.open`."""
        ...

    def opened(self, stored: StoredInstance, reader: ObjectReader) -> ObjectReader:
        """See `Archive.opened`."""
        ...

    async def compressed_since(self, stored: StoredInstance) -> StoredInstance | None:
        """See `Archive.compressed_since`."""
        ...

    def signed(self, item: DicomObject, destination: str) -> DicomObject:
        """See `Archive.signed`."""
        ...

    def leaving_syntax(self, stored: StoredInstance, destination: str) -> str:
        """See `Archive.leaving_syntax`."""
        ...

    async def leaving(
        self, item: DicomObject, destination: str, *, signs: bool = True
    ) -> DicomObject:
        """See `Archive.leaving`."""
        ...
