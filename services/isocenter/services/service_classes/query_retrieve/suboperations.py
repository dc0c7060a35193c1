"""C-STORE sub-operations of C-MOVE and C-GET: sending, counting, and what the answers say.

PS3.4 C.4.2.2.1, C.4.3.2.1 and their state tables: a pending response with counters
after each sub-operation, a cancel honoured between any two, and a final response
whose identifier lists the instances that failed.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Final

from isocenter.engine.dataset import DataSetError, encoding_of, write_data_set
from isocenter.engine.dimse.message_codec import (
    CGetRequest,
    CMoveRequest,
    CStoreResponse,
)
from isocenter.engine.dimse.status import Status, StatusClass, classify
from isocenter.engine.dimse.suboperations import SubOperations
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.deidentification.index_view import original_of
from isocenter.services.archive.index.query import Query, SingleValue, ValueList
from isocenter.services.archive.locks.lock import StudyLockedError
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.read_ahead import ReadAhead
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.association.operation import Operation
from isocenter.services.association.requestor import InvokingAssociation
from isocenter.services.association.service_registry import Statuses
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.transcoder import Transcoder, cure_for
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.errors import OperationError, StorageError
from isocenter.services.notices import InstancesSent, RetrieveFailed, TransferStarted
from isocenter.services.service_classes.query_retrieve.information_models import ObjectChange
from isocenter.services.service_classes.storage.scu import send_object

log = logging.getLogger("isocenter.retrieve")

#: Of C-MOVE and C-GET (PS3.4 Tables C.4-2 and C.4-3).
RETRIEVE_STATUSES: Final[Statuses] = {
    Status.SUCCESS: "all was sent",
    Status.UNABLE_TO_CALCULATE_MATCHES: "more than one request, or all together, may ask for",
    Status.UNABLE_TO_PERFORM_SUBOPERATIONS: "nothing was sent: a study is being changed, or the "
    "identifier is over its limit",
    Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS: "the identifier does not fit the model or the level",
    Status.SUBOPERATIONS_WITH_FAILURES: "some were not sent, or were answered with a warning",
    Status.CANNOT_UNDERSTAND: "the identifier cannot be read",
    Status.CANCEL: "cancelled before all was sent",
    Status.PENDING: "after each sub-operation, and while a C-MOVE waits for its destination",
}

_FAILED_SOP_INSTANCE_UID_LIST = 0x00080058
_STUDY_INSTANCE_UID: Final = 0x0020000D


class SubOperationProgress:
    """Answers one C-MOVE or C-GET as its sub-operations go on."""

    def __init__(self, operation: Operation, counters: SubOperations) -> None:
        self.counters = counters
        self._operation = operation
        #: By Study Instance UID.
        self._sent: Counter[str] = Counter()
        self._unsent: Counter[str] = Counter()
        #: The first cause of a failure.
        self.why = ""

    def publish_start(
        self,
        instances: Iterable[StoredInstance],
        *,
        destination: str,
        destination_address: str,
    ) -> None:
        """Tell that these are about to be sent, and leave word of what came of it."""
        instances = tuple(instances)
        operation, counters = self._operation, self.counters
        begun = TransferStarted(
            caller=operation.association.caller,
            command="C-MOVE" if isinstance(operation.request, CMoveRequest) else "C-GET",
            destination=destination,
            destination_address=destination_address,
            studies=Counter(original_of(instance).study_instance_uid for instance in instances),
            sop_classes=frozenset(instance.sop_class_uid for instance in instances),
        )
        operation.association.notices.publish(begun)
        operation.completion_notice = lambda: InstancesSent(
            caller=operation.association.caller,
            command=begun.command,
            destination=destination,
            destination_address=destination_address,
            studies=begun.studies,
            sop_classes=begun.sop_classes,
            completed=counters.completed,
            failed=counters.failed,
            warning=counters.warning,
            status=operation.status,
            sent=self._sent,
            unsent=self._unsent,
            why=self._why_it_ended(),
        )

    def _why_it_ended(self) -> str:
        if self.why or self._operation.status is not None:
            return self.why
        return "the association ended before the final response"

    def record_failure(self, why: str) -> None:
        """Take down why something failed; the first cause is told."""
        self.why = self.why or why

    def count(self, instance: StoredInstance, status: int | None) -> None:
        """One sub-operation has ended; None: it could not be performed."""
        failed = self.counters.failed
        self.counters.count(instance.sop_instance_uid, status)
        if self.counters.failed > failed:
            self._unsent[original_of(instance).study_instance_uid] += 1
            if status is not None:
                self.record_failure(
                    f"instance {instance.sop_instance_uid} was answered {status:04X}H"
                )
        else:
            self._sent[original_of(instance).study_instance_uid] += 1

    def fail_rest(self, instances: Iterable[StoredInstance], why: str) -> None:
        """None of these can be sent."""
        self.record_failure(why)
        for instance in instances:
            self.count(instance, None)

    async def pending(self) -> None:
        """A pending response with the counters; the last word is left to `final`."""
        if self.counters.remaining:
            await self._operation.respond(self.counters.response_to(self._request, Status.PENDING))

    async def pending_before_next(self) -> None:
        """As `pending`, where the next sub-operation follows at once: both leave together."""
        if self.counters.remaining:
            await self._operation.respond_progress(
                self.counters.response_to(self._request, Status.PENDING)
            )

    async def final(self, status: int | None = None) -> None:
        """The final response, with the list of failed instances if there are any."""
        failed = self.counters.failed_uids
        identifier = None
        if failed:
            encoding = encoding_of(self._operation.context.transfer_syntax)
            value = "\\".join(failed).encode("ascii")
            identifier = write_data_set([(_FAILED_SOP_INSTANCE_UID_LIST, "UI", value)], encoding)
        await self._operation.respond(self.counters.response_to(self._request, status), identifier)

    @property
    def _request(self) -> CMoveRequest | CGetRequest:
        request = self._operation.request
        assert isinstance(request, CMoveRequest | CGetRequest)
        return request


@dataclass(slots=True)
class RequestedStudies:
    """What a retrieve request asks for, as far as it was understood.

    Attributes:
        studies: Study Instance UIDs that its identifier names.
        why: what the log says of its failure; empty: what the response says will do.
    """

    studies: tuple[str, ...] = ()
    why: str = ""

    def read_query(self, query: Query) -> None:
        """Take down the studies that *query* names."""
        for criterion in query.criteria:
            match criterion.tag, criterion.match:
                case (tag, SingleValue(value)) if tag == _STUDY_INSTANCE_UID:
                    self.studies = (value,)
                case (tag, ValueList(values)) if tag == _STUDY_INSTANCE_UID:
                    self.studies = tuple(values)
                case _:
                    pass


@contextmanager
def publishing_failure(operation: Operation, destination: str) -> Iterator[RequestedStudies]:
    """Leave word of a failure inside, where nothing could be sent at all."""
    asked = RequestedStudies()
    try:
        yield asked
    except OperationError as error:
        if operation.completion_notice is None:
            failed = RetrieveFailed(
                caller=operation.association.caller,
                command="C-MOVE" if isinstance(operation.request, CMoveRequest) else "C-GET",
                destination=destination,
                studies=asked.studies,
                status=error.status,
                why=asked.why or str(error),
            )
            operation.completion_notice = lambda: failed
        raise


class RetrieveBacklog:
    """What all retrieve requests of a process have yet to send.

    Args:
        limit: instances; 0: no bound.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        #: Instances now, those of requests that have not ended yet.
        self.count = 0

    @asynccontextmanager
    async def instances_of(
        self, archive: ReadableArchive, queries: Sequence[Query], most: int = 0, *, reader: str = ""
    ) -> AsyncIterator[list[StoredInstance]]:
        """Everything that a retrieve request stands for, once: the counters need the total.

        While it lasts nobody changes the studies.

        Args:
            most: more than that are refused; 0: no bound.
            reader: who asks, for those who want to change the studies.

        Raises:
            OperationError: A701H, there are too many; A702H, a study is being changed.
        """
        found: list[StoredInstance] = []
        locks = archive.locks
        try:
            await archive.until_corrected()
            generation = locks.generation
            for query in queries:
                await self._gather(archive, query, most, found)
            studies = {each.study_instance_uid for each in found}
            async with AsyncExitStack() as stack:
                try:
                    await stack.enter_async_context(locks.reading(studies, reader))
                except StudyLockedError as error:
                    raise OperationError(
                        Status.UNABLE_TO_PERFORM_SUBOPERATIONS,
                        "a study is being changed; ask again later",
                        log_detail=str(error),
                    ) from error
                if locks.generation != generation:
                    # One may have been changed between the two.
                    self.count -= len(found)
                    found.clear()
                    for query in queries:
                        await self._gather(archive, query, most, found)
                yield found
        finally:
            self.count -= len(found)

    async def _gather(
        self, archive: ReadableArchive, query: Query, most: int, found: list[StoredInstance]
    ) -> None:
        known = {each.sop_instance_uid for each in found}
        async with archive.index.instances(query) as blocks:
            async for block in blocks:
                new = [each for each in block if each.sop_instance_uid not in known]
                found += new
                self.count += len(new)
                if most and len(found) > most:
                    raise OperationError(
                        Status.UNABLE_TO_CALCULATE_MATCHES,
                        f"more than {most} instances; ask for less at once",
                    )
                if self.limit and self.count > self.limit:
                    raise OperationError(
                        Status.UNABLE_TO_CALCULATE_MATCHES,
                        "too much is being retrieved; ask again later",
                    )


async def send_instance(
    ahead: ReadAhead,
    association: InvokingAssociation,
    instance: StoredInstance,
    *,
    destination: str,
    move_originator: tuple[str, int] | None = None,
    examine: bool = False,
    blame: Callable[[str], None] = lambda why: None,
    transcoder: Transcoder | None = None,
    change: ObjectChange | None = None,
) -> int | None:
    """Send one; the status of its response, None when it cannot be sent: the log says why.

    Args:
        ahead: opens it.
        destination: AE title of who gets it.
        blame: is told why it cannot be sent.
        examine, transcoder: see `isocenter.services.service_classes.storage.scu.send_object`.
        change: what of it is sent; None: all of it.

    Raises:
        AssociationError: *association* has ended.
    """
    peer_log = association.peer_log

    async def send(found: StoredInstance) -> CStoreResponse | None:
        archive = ahead.archive
        item = stored_object(found, ahead.open)
        item = await archive.leaving(item, destination, signs=change is None)
        async with AsyncExitStack() as stack:
            if change is not None:
                # A signature of the whole would be none of a part.
                item = await stack.enter_async_context(change(item))
                item = archive.signed(item, destination)
            return await send_object(
                association,
                item,
                move_originator=move_originator,
                examine=examine,
                transcoder=transcoder,
            )

    try:
        try:
            response = await send(instance)
        except KeyError:
            now = await ahead.archive.compressed_since(instance)
            if now is None:
                raise
            response = await send(now)
    except (StorageError, KeyError, DataSetError, PixelError, OperationError, OSError) as error:
        peer_log.write(
            log, logging.ERROR, "instance %s cannot be sent: %s", instance.sop_instance_uid, error
        )
        blame(f"instance {instance.sop_instance_uid} cannot be sent: {error}")
        return None
    if response is None:
        peer_log.write(
            log,
            logging.WARNING,
            "instance %s is not sent: the peer accepted no presentation context for %s in %s%s",
            instance.sop_instance_uid,
            name_of(instance.sop_class_uid),
            name_of(instance.transfer_syntax_uid),
            cure_for(instance.transfer_syntax_uid),
        )
        blame(
            f"no presentation context was accepted for {name_of(instance.sop_class_uid)} in "
            f"{name_of(instance.transfer_syntax_uid)}"
        )
        return None
    if classify(response.status) is not StatusClass.SUCCESS:
        peer_log.write(
            log,
            logging.WARNING,
            "instance %s: the peer answered %04XH",
            instance.sop_instance_uid,
            response.status,
        )
    return response.status
