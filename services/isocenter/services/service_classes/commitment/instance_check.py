"""Check of an instance before it is promised to be kept (PS3.4 J.3.3.1.2).

The archive knows the instance, it has the SOP class that the SCU names, and its file holds
what was stored: it is read again, and the SHA-256 of its data set is compared.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Final

import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.errors import StorageError
from isocenter.services.service_classes.commitment.transaction import FailureReason, Reference

log = logging.getLogger("isocenter.commitment")

#: What is read and hashed at once.
_PIECE_BYTES: Final = 1 << 20
#: References that the index is asked about at once.
_BLOCK: Final = 500


class InstanceChecker:
    """Verifies references against an archive.

    Args:
        is_supported: whether the archive stores a SOP class at all.
        checksums: read the files; without, existence and SOP class suffice.
        concurrency: files that are read at once, over all transactions.
    """

    def __init__(
        self,
        archive: Archive,
        *,
        is_supported: Callable[[str], bool],
        checksums: bool = True,
        concurrency: int = 2,
    ) -> None:
        self._archive = archive
        self._is_supported = is_supported
        self._checksums = checksums
        self._reading = trio.CapacityLimiter(concurrency)

    async def failures(self, references: Sequence[Reference]) -> list[int]:
        """For each reference 0, or its failure reason.

        Raises:
            StorageError: the index cannot be asked, so nothing is known.
        """
        found: list[int] = [0] * len(references)

        async def look(position: int, stored: StoredInstance | None) -> None:
            async with self._reading:
                found[position] = await self._failure(references[position], stored)

        for start in range(0, len(references), _BLOCK):
            block = references[start : start + _BLOCK]
            known = await self._archive.index.get([each.sop_instance_uid for each in block])
            async with trio.open_nursery() as nursery:
                for position, each in enumerate(block, start):
                    nursery.start_soon(look, position, known.get(each.sop_instance_uid))
        return found

    async def _failure(self, reference: Reference, stored: StoredInstance | None) -> int:
        if stored is None:
            if not self._is_supported(reference.sop_class_uid):
                return FailureReason.REFERENCED_SOP_CLASS_NOT_SUPPORTED
            return FailureReason.NO_SUCH_OBJECT_INSTANCE
        if not _is_where(reference, stored):
            return FailureReason.NO_SUCH_OBJECT_INSTANCE
        if stored.sop_class_uid != reference.sop_class_uid:
            return FailureReason.CLASS_INSTANCE_CONFLICT
        if not self._checksums:
            return 0
        fault = await self._fault(stored)
        if fault:
            # Another object may have taken its place since the index was asked.
            now = (await self._archive.index.get([stored.sop_instance_uid])).get(
                stored.sop_instance_uid
            )
            if now is None:
                return FailureReason.NO_SUCH_OBJECT_INSTANCE
            if (now.object_key, now.digest) != (stored.object_key, stored.digest):
                fault = await self._fault(now)
        return fault

    async def _fault(self, stored: StoredInstance) -> int:
        """0 when the file holds what was stored."""
        uid = stored.sop_instance_uid
        try:
            digest = hashlib.sha256()
            async with await self._archive.open(stored) as reader:
                is_whole = reader.size == stored.size
                position = stored.data_set_offset
                while is_whole and position < stored.size:
                    piece = await reader.view(position, _PIECE_BYTES)
                    if not piece:
                        is_whole = False
                    await trio.to_thread.run_sync(digest.update, piece)
                    position += len(piece)
            if is_whole and digest.hexdigest() == stored.digest:
                return 0
            log.error("%s is not what was stored; see isocenter db verify", uid)
        except KeyError:
            log.error("the file of %s is gone; see isocenter db verify", uid)
        except StorageError as error:
            log.error("%s cannot be read: %s", uid, error)
            if error.out_of_resources:
                return FailureReason.RESOURCE_LIMITATION
        return FailureReason.PROCESSING_FAILURE


def _is_where(reference: Reference, stored: StoredInstance) -> bool:
    """Whether an instance is in the study and the series that the request names, if it does."""
    return reference.study_instance_uid in ("", stored.study_instance_uid) and (
        reference.series_instance_uid in ("", stored.series_instance_uid)
    )
