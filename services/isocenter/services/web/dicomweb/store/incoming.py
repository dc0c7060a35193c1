"""Objects of one store request on their way into the archive.

No object is held: each is written as it arrives and committed while the next one comes, so that a
request costs few rounds.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Final, Self

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError
from isocenter.engine.dimse.status import Status
from isocenter.engine.errors import LocalProtocolError
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ingest import Ingest
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.store_answers import StoreResult, stored_notice
from isocenter.services.concurrency import alone
from isocenter.services.dicom.file_recognition import (
    FIRST_BYTES,
    HEAD_BYTES,
    DamagedFileError,
    FileIdentity,
    NotDicomFileError,
    identify,
    identify_early,
)
from isocenter.services.dicom.model_file import ModelFile
from isocenter.services.dicom.model_reader import ModelError
from isocenter.services.notices import Caller, InstanceRefused, Notices
from isocenter.services.web.dicomweb.store.outcomes import OTHER_STUDY, Outcome

log = logging.getLogger("isocenter.http")

#: Objects of one request that are being committed while others come.
_MOST_COMMITTING: Final = 32
#: Bytes of a made object that are encoded at once.
_PIECE: Final = 1 << 20


class Incoming:
    """The objects of one request, one after the other.  An async context manager: left, all of
    them have their outcome; left by an exception, what was not committed leaves no trace.

    Args:
        notices: is told of each object, as of one that came by C-STORE.
        study: of which all of them have to be; empty: of any.
        wanted: SOP Instance UIDs, of which all of them have to be; None: of any.
    """

    def __init__(
        self,
        archive: Archive,
        notices: Notices,
        caller: Caller,
        study: str,
        wanted: Collection[str] | None = None,
    ) -> None:
        self._archive = archive
        self._notices = notices
        self._caller = caller
        self._study = study
        self._wanted = wanted
        self._outcomes: list[Outcome | None] = []
        self._committing = trio.CapacityLimiter(_MOST_COMMITTING)
        #: What came of an object of which it is not known yet what it is.
        self._head: bytearray | None = None
        self._ingest: Ingest | None = None
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery

    @property
    def outcomes(self) -> list[Outcome]:
        """Of all objects, in their order, once the context was left."""
        return [one for one in self._outcomes if one is not None]

    async def __aenter__(self) -> Self:
        self._nursery = await self._manager.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if error is not None:
            await self._discard()
        try:
            return await self._manager.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            raise alone(group) from None

    # Objects that come as they are.

    def begin(self) -> None:
        """An object begins: a Part 10 file, or a data set alone."""
        self._outcomes.append(None)
        self._head = bytearray()

    async def write(self, data: Buffer) -> bool:
        """Some of it; False: it was refused, and no more of it is wanted."""
        if self._outcomes[-1] is not None:
            return False
        if self._ingest is not None:
            await self._write([data])
        elif self._head is not None:
            await self._look_at(self._head, data)
        return self._outcomes[-1] is None

    async def end(self) -> None:
        """It is here as a whole."""
        if self._outcomes[-1] is None and self._head is not None:
            await self._open(self._head, is_whole=True)
        await self._commit_later(0, "")

    async def _look_at(self, head: bytearray, data: Buffer) -> None:
        """Go on from what came before, of which nobody knows yet what it is, with *data*."""
        missing = FIRST_BYTES - len(head)
        if 0 < missing <= len(data):
            rest = memoryview(data)[missing:]
            head += memoryview(data)[:missing]
            identity = identify_early(bytes(head), self._archive.limits)
            if identity is not None:  # as a rule: no more has to be kept
                await self._begin_as(identity, [memoryview(head)[identity.data_set_offset :], rest])
                return
            data = rest
        head += data
        if len(head) >= HEAD_BYTES:
            await self._open(head, is_whole=False)

    async def _open(self, head: bytearray, *, is_whole: bool) -> None:
        try:
            identity = identify(head, self._archive.limits, is_whole=is_whole)
        except (DamagedFileError, NotDicomFileError) as error:
            self._head = None
            self._fail(Status.CANNOT_UNDERSTAND, str(error))
            return
        await self._begin_as(identity, [memoryview(head)[identity.data_set_offset :]])

    async def _begin_as(self, identity: FileIdentity, buffers: list[Buffer]) -> None:
        """It is known what it is; *buffers*: what came of its data set."""
        self._head = None
        if await self._receive(
            identity.sop_class_uid, identity.sop_instance_uid, identity.transfer_syntax_uid
        ):
            await self._write(buffers)

    # Objects that are made here.

    async def add(self, made: ModelFile, *, warning: int = 0, comment: str = "") -> None:
        """An object is made, written and committed.

        Args:
            warning: the status when it is stored and nothing else is to be said.
        """
        self._outcomes.append(None)
        if not await self._receive(
            made.sop_class_uid, made.sop_instance_uid, made.transfer_syntax_uid
        ):
            return
        pieces = made.data_set()
        try:
            while self._ingest is not None:
                block = await trio.to_thread.run_sync(_together, pieces)
                if not block:
                    break
                await self._write(block)
        except (DataSetError, LocalProtocolError, ModelError) as error:
            await self._give_up(Status.CANNOT_UNDERSTAND, str(error))
        except OSError as error:
            await self._give_up(Status.PROCESSING_FAILURE, "bulk data cannot be read again")
            log.warning("bulk data of a request cannot be read again: %s", error.strerror)
        await self._commit_later(warning, comment)

    def refuse(
        self, status: int, comment: str, *, sop_class_uid: str = "", sop_instance_uid: str = ""
    ) -> None:
        """An object, or a part that is none, fails."""
        self._outcomes.append(None)
        place = len(self._outcomes) - 1
        self._tell_refused(place, status, comment, sop_class_uid, sop_instance_uid)

    # Both.

    async def _receive(
        self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> bool:
        if self._wanted is not None and sop_instance_uid not in self._wanted:
            place = len(self._outcomes) - 1
            why = "nobody asked for it"
            self._tell_refused(place, Status.NOT_AUTHORIZED, why, sop_class_uid, sop_instance_uid)
            return False
        try:
            self._ingest = await self._archive.receive(
                sop_class_uid=sop_class_uid,
                sop_instance_uid=sop_instance_uid,
                transfer_syntax_uid=transfer_syntax_uid,
                source_ae_title="",
            )
        except StoreError as error:
            place = len(self._outcomes) - 1
            self._tell_refused(place, error.status, error.comment, sop_class_uid, sop_instance_uid)
            return False
        return True

    async def _write(self, buffers: list[Buffer]) -> None:
        assert self._ingest is not None
        try:
            await self._ingest.write(buffers)
        except StoreError as error:
            await self._give_up(error.status, error.comment)

    async def _give_up(self, status: int, comment: str) -> None:
        ingest = self._ingest
        await self._discard()
        if ingest is not None:
            self._refuse(len(self._outcomes) - 1, ingest, status, comment)

    async def _discard(self) -> None:
        ingest, self._ingest = self._ingest, None
        if ingest is not None:
            await ingest.__aexit__(None, None, None)

    async def _commit_later(self, warning: int, comment: str) -> None:
        ingest, self._ingest = self._ingest, None
        if ingest is None or self._outcomes[-1] is not None:
            return
        try:
            self._committing.acquire_on_behalf_of_nowait(ingest)  # a turn of the scheduler less
        except trio.WouldBlock:
            try:
                await self._committing.acquire_on_behalf_of(ingest)
            except BaseException:
                self._ingest = ingest
                raise
        place = len(self._outcomes) - 1
        self._nursery.start_soon(self._commit, place, ingest, warning, comment)

    async def _commit(self, place: int, ingest: Ingest, warning: int, comment: str) -> None:
        try:
            async with ingest:
                try:
                    if self._study:
                        # Rules may have held what says it until now.
                        await ingest.finish()
                        if ingest.study_instance_uid != self._study:
                            self._refuse(place, ingest, OTHER_STUDY, "it is of another study")
                            return
                    result = await ingest.commit()
                except StoreError as error:
                    self._refuse(place, ingest, error.status, error.comment)
                    return
                self._keep(place, ingest, result, warning, comment)
        finally:
            self._committing.release_on_behalf_of(ingest)

    def _keep(
        self, place: int, ingest: Ingest, result: StoreResult, warning: int, comment: str
    ) -> None:
        record = ingest.record
        assert record is not None
        for what in (*result.changes, *result.forgiven):
            log.info("instance %s: %s", record.sop_instance_uid, what)
        self._outcomes[place] = Outcome(
            status=result.status or warning,
            sop_class_uid=record.sop_class_uid,
            sop_instance_uid=record.sop_instance_uid,
            study_instance_uid=record.study_instance_uid,
            series_instance_uid=record.series_instance_uid,
            comment=result.comment if result.status else comment,
        )
        self._notices.publish(stored_notice(self._caller, record, result.outcome))

    def _refuse(self, place: int, ingest: Ingest, status: int, comment: str) -> None:
        self._tell_refused(
            place, status, comment, ingest.sop_class_uid, ingest.sop_instance_uid, ingest
        )

    def _fail(self, status: int, comment: str) -> None:
        self._tell_refused(len(self._outcomes) - 1, status, comment, "", "")

    def _tell_refused(
        self,
        place: int,
        status: int,
        comment: str,
        sop_class_uid: str,
        sop_instance_uid: str,
        ingest: Ingest | None = None,
    ) -> None:
        self._outcomes[place] = Outcome(
            status=status,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            comment=comment,
        )
        log.info("an object of a request was refused: %04XH %s", status, comment)
        self._notices.publish(
            InstanceRefused(
                caller=self._caller,
                sop_class_uid=sop_class_uid,
                sop_instance_uid=sop_instance_uid,
                status=status,
                comment=comment,
                study_instance_uid="" if ingest is None else ingest.study_instance_uid,
                patient_id="" if ingest is None else ingest.patient_id,
            )
        )


def _together(pieces: Iterator[Buffer]) -> list[Buffer]:
    """The next pieces of an object; none: there are no more."""
    found: list[Buffer] = []
    length = 0
    for piece in pieces:
        found.append(piece)
        length += len(piece)
        if length >= _PIECE:
            break
    return found
