"""Maker of metadata, of a server and of the command that makes all."""

from __future__ import annotations

from collections.abc import Callable

from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.archive.metadata.maker import REST, MadeSeries, MetadataMaker, make_all
from isocenter.services.archive.metadata.verification import verify_metadata
from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.settings.settings import Settings
from isocenter.services.web.dicomweb.urls import ROOT, instance_url


async def make_metadata_always(settings: Settings, parts: ArchiveParts) -> None:
    """Make what DICOMweb answers from, soon after objects have come, until cancelled."""
    await _maker(settings, parts, REST).run()


async def make_metadata(
    settings: Settings, parts: ArchiveParts, progress: Callable[[int, int], None]
) -> MadeSeries:
    """Make all that is missing, now.

    Args:
        progress: told how many series are done, and how many there are.

    Raises:
        StorageError: the database cannot be read or written.
    """
    return await make_all(_maker(settings, parts, 0.0), parts.stores.metadata, progress)


async def check_metadata(parts: ArchiveParts) -> CountedFindings:
    """What was made beforehand and is not what would be made now.

    Raises:
        StorageError: the index cannot be read.
    """
    return await verify_metadata(parts.archive, parts.stores.metadata, instance_url)


def _maker(settings: Settings, parts: ArchiveParts, rest: float) -> MetadataMaker:
    web = settings.web
    host = f"[{web.host}]" if ":" in web.host else web.host
    # Whoever asks under another name gets what is put together when they ask.
    root = web.public_root or f"http://{host}:{web.port}"
    return MetadataMaker(
        parts.stores.metadata,
        parts.archive,
        base=root.rstrip("/") + ROOT,
        url_of=instance_url,
        rest=rest,
    )
