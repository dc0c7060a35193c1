"""The transcoder of a server, with its processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from isocenter.services.dicom.pixels.encoding import EncodingOptions
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.dicom.pixels.transcoding import TranscodingOptions
from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD
from isocenter.services.notices import Notices
from isocenter.services.settings.loading import Settings


@asynccontextmanager
async def open_transcoder(settings: Settings, notices: Notices) -> AsyncIterator[Transcoder | None]:
    """What the settings say; None: nothing is to be transcoded."""
    transcoding = settings.transcoding
    if not transcoding.enabled:
        yield None
        return
    options = TranscodingOptions(
        lossy=transcoding.lossy,
        encoding=EncodingOptions(quality=transcoding.quality),
        signatures=transcoding.signatures,
    )
    async with CodecPool(pool_limits_of(settings)) as pool:
        yield Transcoder(
            pool,
            preference=[BY_KEYWORD[keyword].uid for keyword in transcoding.preference],
            options=options,
            cache_bytes=transcoding.cache_bytes,
            notices=notices,
        )


def pool_limits_of(settings: Settings) -> PoolLimits:
    """What decoding and encoding may take."""
    transcoding = settings.transcoding
    return PoolLimits(
        workers=transcoding.workers,
        frame_bytes=transcoding.max_frame_bytes,
        memory_bytes=transcoding.memory_bytes,
        seconds=transcoding.frame_seconds,
    )
