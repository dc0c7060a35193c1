"""Transcoder and compressor of a server, with their processes."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.composition.signatures import signer_of
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.pixels.encoding import EncodingOptions
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.dicom.pixels.transcoding import TranscodingOptions
from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD
from isocenter.services.notices import Notices
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.compression.compressor import CompressionOptions, Compressor

#: What waits for everything else on the machine (nice(2)).
_LAST: Final = 19
#: A frame takes as long as the rest of the machine lets it, before its process is ended.
_PATIENCE: Final = 10


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


async def compress(settings: Settings, parts: ArchiveParts, notices: Notices) -> None:
    """Have objects kept as rules want them, until cancelled."""
    compression = settings.compression
    limits = pool_limits_of(settings)
    limits = replace(
        limits,
        workers=compression.workers,
        seconds=limits.seconds * _PATIENCE,
        niceness=_LAST,
    )
    async with CodecPool(limits) as pool:
        await Compressor(
            parts.stores.compressions,
            parts.archive,
            pool,
            CompressionOptions(
                bytes_per_second=compression.bytes_per_second,
                backoff=Backoff(
                    first_seconds=compression.first_retry,
                    longest_seconds=compression.longest_retry,
                    give_up_after_seconds=compression.give_up_after,
                ),
            ),
            notices=notices,
            signer=signer_of(settings),
            now=parts.stores.clock,
            token=lambda: secrets.token_hex(4),
        ).run()


def pool_limits_of(settings: Settings) -> PoolLimits:
    """What decoding and encoding may take."""
    transcoding = settings.transcoding
    return PoolLimits(
        workers=transcoding.workers,
        frame_bytes=transcoding.max_frame_bytes,
        memory_bytes=transcoding.memory_bytes,
        seconds=transcoding.frame_seconds,
    )
