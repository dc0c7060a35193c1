"""Port of what is made of objects beforehand for the web, and its values.

One row for each series says when its metadata are due, and holds them when they are made; what is
made of one instance goes when its bytes change, and takes the metadata of its series along, in
the transaction of that change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.metadata.gzip_parts import GzipPart
from isocenter.services.archive.ports import StoredInstance

#: Of all that is kept: changes when it is written otherwise, and then it is made again.
FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceMetadata:
    """What is made of one object.

    Attributes:
        fragment: its metadata (`fragment.pack_fragment`); None: they are made when they are asked
            for, since they are too long or cannot be made.
        layout: `ImageLayout.pack`; empty: it has none.
    """

    fragment: bytes | None
    layout: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownInstance:
    """An object of the archive, and what was made of it; None: nothing yet."""

    stored: StoredInstance
    metadata: InstanceMetadata | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSeries:
    """The objects of one series, by instance number.

    Attributes:
        dictionary: by which their fragments are packed.
    """

    instances: Sequence[KnownInstance]
    dictionary: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesContent:
    """The metadata of a series: fragments with commas between them.

    Attributes:
        base: the URL of the service that is in them.
        tag: another one for other metadata.
        part: the text.
    """

    base: str
    tag: str
    part: GzipPart


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesWork:
    """A series whose metadata are due.

    Attributes:
        version: changes with the series; what was made of an earlier one is not kept.
    """

    number: int
    version: int
    study_instance_uid: str
    series_instance_uid: str


class MetadataBook(Protocol):
    """Keeps what was made.  Failures are `StorageError`."""

    async def instance(self, sop_instance_uid: str) -> KnownInstance | None:
        """An object, with its layout only; None: the archive has it not."""
        ...

    async def series(
        self, study_instance_uid: str, series_instance_uid: str = "", sop_instance_uid: str = ""
    ) -> Sequence[KnownSeries]:
        """The objects of a study, a series, or one of them, ordered by series and instance
        number."""
        ...

    async def contents(
        self, study_instance_uid: str, series_instance_uid: str = ""
    ) -> Sequence[SeriesContent | None]:
        """The metadata of all series of a study, or of one, in the same order; None: they are not
        made."""
        ...

    # For whoever makes them.

    async def due(self, limit: int) -> Sequence[SeriesWork]:
        """Series whose metadata are due, those that were changed last first."""
        ...

    async def keep(
        self,
        work: SeriesWork,
        made: Mapping[StoredInstance, InstanceMetadata],
        dictionary: bytes,
    ) -> bool:
        """Keep what was made of objects; False: the series has changed, nothing was kept."""
        ...

    async def finish(self, work: SeriesWork, content: SeriesContent | None) -> bool:
        """Keep the metadata of a series, or that there are none to keep; it is not due any more.

        False: the series has changed, nothing was kept.
        """
        ...

    async def postpone(self, work: SeriesWork, seconds: float) -> None:
        """Something cannot be read now."""
        ...

    async def renew(self, base: str) -> int:
        """What has another base, or was made by another version, is due; how many series."""
        ...

    async def order(self) -> int:
        """All that is to be made is due now; how many series."""
        ...
