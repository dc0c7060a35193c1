"""Compressor: has objects kept in the form, smaller or signed, that rules want.

One object after the other is made anew, published under another key, read back and compared with
what it was made of; then one transaction has the index name the new one, and only then the old
bytes go.  So a crash leaves one form or the other, and what is being sent is read to its end.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from math import inf
from typing import TYPE_CHECKING, Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError, encoding_of
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.object_signing import ObjectSigned
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.second_forms import (
    GOODBYE_SECONDS,
    published_form,
    stored_of,
    write_form,
)
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.archive.stored_scan import data_set_digest
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.comparison import find_difference
from isocenter.services.dicom.pixels.errors import (
    CodecUnavailableError,
    ImageError,
)
from isocenter.services.dicom.pixels.frames import open_image
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.transcoding import (
    TranscodedObject,
    TranscodingOptions,
    transcode,
)
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES
from isocenter.services.dicom.signatures.algorithms import SignatureError
from isocenter.services.errors import StorageError
from isocenter.services.notices import InstancesCompressed, Notices
from isocenter.services.workflow.compression.ports import CompressionJob, CompressionQueue
from isocenter.services.workflow.compression.signing import SignedForm, signed_form

if TYPE_CHECKING:
    from isocenter.services.dicom.signatures.signing import Signer

log = logging.getLogger("isocenter.compression")

#: How often the database is asked for what became due.
LOOK_SECONDS: Final = 5.0
#: Objects that are looked up, and told of, together.
_AT_ONCE: Final = 50
_PURGE_SECONDS: Final = 86_400.0
#: Records of what stays as it is are kept so long.
_KEEP_SECONDS: Final = 7 * 86_400.0
_DIGITAL_SIGNATURES: Final = 0xFFFAFFFA
_LOSSLESS: Final = TranscodingOptions(lossy=False, signatures="refuse")


class StaysError(Exception):
    """The object is to stay as it is; the message says why."""


class _GoneError(Exception):
    """The archive has the object no more, or another one in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionOptions:
    """How fast it goes, and how often it is tried.

    Attributes:
        bytes_per_second: of the objects as they were; 0: as fast as it goes.
        backoff: intervals between attempts.
    """

    bytes_per_second: int = 0
    backoff: Backoff


class Compressor:
    """Works off what rules have queued; `run` does it as long as the server does.

    Of all processes of a server one runs it.

    Args:
        signer: signs; asked each time, as its certificate may have been exchanged.  None: nothing
            is signed.
        now: seconds since 1970.
        token: eight new hexadecimal digits with each call.
    """

    def __init__(
        self,
        queue: CompressionQueue,
        archive: Archive,
        pool: CodecPool,
        options: CompressionOptions,
        *,
        notices: Notices,
        signer: Callable[[], Signer] | None = None,
        now: Callable[[], float],
        token: Callable[[], str],
    ) -> None:
        self._signer = signer
        self._queue = queue
        self._archive = archive
        self._pool = pool
        self._options = options
        self._notices = notices
        self._now = now
        self._token = token
        self._told_missing = False

    async def run(self) -> None:
        """Compress what is due, until cancelled."""
        purge_at = -inf
        while True:
            has_more = False
            try:
                if trio.current_time() >= purge_at:
                    purge_at = trio.current_time() + _PURGE_SECONDS
                    await self._queue.purge(self._now() - _KEEP_SECONDS)
                has_more = await self.compress_due()
            except StorageError as error:
                log.error("what is to be compressed has to wait: %s", error)
            if not has_more:
                await trio.sleep(LOOK_SECONDS)

    async def compress_due(self) -> bool:
        """Some of what is due; whether something came of it.

        Raises:
            StorageError: the queue cannot be read or written.
        """
        jobs = await self._queue.due(_AT_ONCE)
        tally = _Tally()
        try:
            for job in jobs:
                began = trio.current_time()
                size = await self._attempt(job, tally)
                if self._options.bytes_per_second:
                    seconds = size / self._options.bytes_per_second
                    await trio.sleep(max(0.0, began + seconds - trio.current_time()))
        finally:
            tally.publish(self._notices)
        return tally.has_any

    async def _attempt(self, job: CompressionJob, tally: _Tally) -> int:
        """Bytes that were read for it."""
        stored = (await self._archive.index.get([job.sop_instance_uid])).get(job.sop_instance_uid)
        if stored is None:
            await self._queue.forget(job)
            return 0
        try:
            after = await self.compress(job, stored)
        except _GoneError:
            return 0  # whoever exchanged it has said what is to become of it
        except SignatureError as error:  # not about this object
            await self._failed(job, stored, error, tally)
            return 0
        except (StaysError, ImageError, DataSetError, StoreError) as reason:
            log.info("instance %s stays as it came: %s", stored.sop_instance_uid, reason)
            await self._queue.keep(job, str(reason))
            tally.count(stored, job, "kept")
            return 0
        except (IsocenterError, StorageError, KeyError, OSError) as error:
            await self._failed(job, stored, error, tally)
            return 0
        except Exception as error:
            # One object that nobody thought of hides no other; its text may quote values.
            fault = StorageError(f"internal error ({type(error).__name__})")
            await self._failed(job, stored, fault, tally)
            return 0
        is_smaller = after.transfer_syntax_uid != stored.transfer_syntax_uid
        tally.count(stored, job, "compressed" if is_smaller else "signed", after.size)
        return stored.size

    async def _failed(
        self, job: CompressionJob, stored: StoredInstance, error: Exception, tally: _Tally
    ) -> None:
        again = await self._queue.failed(job, str(error), self._options.backoff)
        tally.count(stored, job, "failed")
        # What is not installed is not there for any object.
        if not isinstance(error, CodecUnavailableError) or not self._told_missing:
            log.warning(
                "instance %s could not be %s%s: %s",
                stored.sop_instance_uid,
                "compressed" if job.transfer_syntax_uid else "signed",
                "" if again else " and was given up",
                error,
            )
        self._told_missing = self._told_missing or isinstance(error, CodecUnavailableError)

    async def compress(self, job: CompressionJob, stored: StoredInstance) -> StoredInstance:
        """Exchange the bytes of one object; what the archive has now.

        Raises:
            StaysError, ImageError, DataSetError, StoreError: it is to stay as it is.
            IsocenterError, StorageError, KeyError, OSError: it cannot be done now.
        """
        await self._check_bytes(stored)
        if job.transfer_syntax_uid:
            try:
                return await self._exchange(job, stored, await self._transcoded(job, stored))
            except (StaysError, ImageError, DataSetError, StoreError) as reason:
                if not job.signs:
                    raise
                log.info("instance %s stays as large as it is: %s", stored.sop_instance_uid, reason)
        return await self._exchange(job, stored, None)

    async def _check_bytes(self, stored: StoredInstance) -> None:
        """What became of it on the disk is not to be made what the archive has of it: there may be
        a good copy, and nobody would look for it any more.

        Raises:
            StorageError: it is not what was stored.
        """
        async with await self._archive.open(stored) as reader:
            _, digest = await data_set_digest(reader, stored)
        if digest != stored.digest:
            raise StorageError(
                "its data set is not the one that was stored; isocenter db verify finds all such "
                "objects, and a backup or a copy of the study has them as they were"
            )

    async def _transcoded(self, job: CompressionJob, stored: StoredInstance) -> TranscodedObject:
        before = stored_object(stored, self._archive.open)
        await self._check(job, stored, before)
        return await transcode(before, job.transfer_syntax_uid, self._pool, _LOSSLESS)

    async def _exchange(
        self, job: CompressionJob, stored: StoredInstance, made: TranscodedObject | None
    ) -> StoredInstance:
        """*made*: in the other transfer syntax; None: it has the one that it is to have."""
        if not job.signs:
            assert made is not None
            return await self._exchange_for(job, stored, made, made, None)
        if self._signer is None:
            raise SignatureError("signatures.sign_key and signatures.sign_certificate are not set")
        item: DicomObject | TranscodedObject = made or stored_object(stored, self._archive.open)
        async with signed_form(item, self._signer) as signed:
            after = await self._exchange_for(job, stored, made, signed.item, signed)
            uid = signed.signature_uid
        self._notices.publish(
            ObjectSigned(
                study_instance_uid=stored.study_instance_uid,
                sop_instance_uid=stored.sop_instance_uid,
                signature_uid=uid,
                rule=job.rule,
            )
        )
        return after

    async def _exchange_for(
        self,
        job: CompressionJob,
        stored: StoredInstance,
        made: TranscodedObject | None,
        new: DicomObject | TranscodedObject,
        signed: SignedForm | None,
    ) -> StoredInstance:
        """Have *new* in the place of *stored*."""
        await self._archive.room.check(stored.size)
        staged = await self._archive.store.stage()
        try:
            record = await write_form(
                self._archive,
                stored,
                staged,
                new.transfer_syntax_uid,
                _buffers_of(new.parts()),
                self._token(),
            )
            if (record.study_instance_uid, record.series_instance_uid) != (
                stored.study_instance_uid,
                stored.series_instance_uid,
            ):
                raise StaysError("made anew, it would belong to another series")
            after = stored_of(record)
            if made is not None and after.size >= stored.size and not _is_compressed(stored):
                raise StaysError(f"it would have {after.size} bytes instead of {stored.size}")
            await staged.finish(after.object_key)
        except BaseException:
            with trio.move_on_after(GOODBYE_SECONDS, shield=True):
                await staged.discard()
            raise
        async with published_form(self._archive, staged, after):
            await self._compare(stored, after, made, signed)
            if not await self._queue.exchange(job, stored, after):
                raise _GoneError
        await self._remove(stored.object_key)
        return after

    async def _compare(
        self,
        stored: StoredInstance,
        after: StoredInstance,
        made: TranscodedObject | None,
        signed: SignedForm | None,
    ) -> None:
        """Read back what is to be kept.

        Raises:
            StaysError: it would not give back what was stored.
        """
        kept = stored_object(after, self._archive.open)
        difference = ""
        if signed is not None and not await signed.is_what_was(kept):
            difference = "more than a signature was added"
        if made is not None and not difference:
            before = stored_object(stored, self._archive.open)
            # What was signed is what was made, byte for byte.
            difference = await find_difference(
                before, kept if signed is None else signed.before, self._pool
            )
        if difference:
            log.error(
                "instance %s: %s would not have given back what was stored: %s; it stays as it "
                "came",
                stored.sop_instance_uid,
                "signed, it" if made is None else PIXEL_SYNTAXES[after.transfer_syntax_uid].name,
                difference,
            )
            raise StaysError(f"read back, it differs: {difference}")

    async def _check(self, job: CompressionJob, stored: StoredInstance, item: DicomObject) -> None:
        source = PIXEL_SYNTAXES.get(stored.transfer_syntax_uid)
        if stored.transfer_syntax_uid == job.transfer_syntax_uid:
            raise StaysError("it is in that transfer syntax already")
        if source is None or source.codec is None:
            raise StaysError("nothing here decodes its transfer syntax")
        if encoding_of(source.uid).big_endian:
            raise StaysError("it is in Explicit VR Big Endian, which is retired")
        if source.is_lossy:
            raise StaysError(f"it is compressed with losses already ({source.name})")
        async with open_image(item, located=frozenset((_DIGITAL_SIGNATURES,))) as image:
            if _DIGITAL_SIGNATURES in image.found.spans:
                log.warning(
                    "instance %s stays as it came: it has digital signatures, which another "
                    "encoding of the pixels would break",
                    stored.sop_instance_uid,
                )
                raise StaysError("it has digital signatures, which would break")

    async def _remove(self, key: str) -> None:
        """The old bytes, which no row of the index names any more."""
        with trio.CancelScope(shield=True):
            try:
                await self._archive.remove_unnamed([key])
                await self._queue.removed([key])
            except StorageError as error:
                log.warning("the former bytes of an object are left to the next start: %s", error)


async def _buffers_of(
    parts: AsyncGenerator[tuple[Buffer, bool], None],
) -> AsyncGenerator[Buffer, None]:
    async with aclosing(parts):
        async for part, _ in parts:
            yield part


def _is_compressed(stored: StoredInstance) -> bool:
    syntax = PIXEL_SYNTAXES.get(stored.transfer_syntax_uid)
    return syntax is not None and syntax.is_encapsulated


class _Tally:
    """What came of some objects, by study and outcome: told together."""

    def __init__(self) -> None:
        self._classes: dict[tuple[str, str, str], Counter[str]] = {}
        self._sizes: dict[tuple[str, str, str], tuple[int, int]] = {}
        #: Whether something came of anything.
        self.has_any = False

    def count(
        self, stored: StoredInstance, job: CompressionJob, outcome: str, size: int = 0
    ) -> None:
        self.has_any = True
        if not job.transfer_syntax_uid or outcome == "signed":
            return  # what was signed is told for itself
        key = (stored.study_instance_uid, job.transfer_syntax_uid, outcome)
        self._classes.setdefault(key, Counter())[stored.sop_class_uid] += 1
        before, after = self._sizes.get(key, (0, 0))
        if outcome == "compressed":
            self._sizes[key] = (before + stored.size, after + size)

    def publish(self, notices: Notices) -> None:
        for key, classes in self._classes.items():
            study, target, outcome = key
            before, after = self._sizes.get(key, (0, 0))
            notices.publish(
                InstancesCompressed(
                    study_instance_uid=study,
                    sop_classes=classes,
                    target=target,
                    outcome=outcome,
                    size_before=before,
                    size=after,
                )
            )


async def finish_exchanges(queue: CompressionQueue, archive: Archive) -> None:
    """After a crash, and before anything is received: bytes of objects that the index names in
    another form go.

    Raises:
        StorageError: they cannot.
    """
    keys = await queue.leaving()
    if not keys:
        return
    indexed = await archive.are_indexed(keys)
    await archive.remove_unnamed(
        [key for key, is_in in zip(keys, indexed, strict=True) if not is_in]
    )
    await queue.removed(keys)
