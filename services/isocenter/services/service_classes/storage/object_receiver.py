"""Storage SCP that calls a function for each object (PS3.4 Annex B).

An object comes into a file; the function gets it when it is whole, and the response leaves when
the function has returned.
"""

from __future__ import annotations

import inspect
import shutil
import tempfile
import weakref
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from isocenter.engine.dimse.message_codec import CStoreRequest, CStoreResponse
from isocenter.engine.dimse.status import Status, StatusClass, classify
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import Offer
from isocenter.services.association.operation import Operation
from isocenter.services.association.service_registry import Statuses
from isocenter.services.dicom.uid_registry import STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES, is_private
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.storage.staged_object import StagedObject, peer_ae_title

if TYPE_CHECKING:
    import pydicom


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedObject:
    """An object that came whole, in a Part 10 file.

    Attributes:
        path: the file, until the function returns: then it is gone, or has its name in the folder.
        study_instance_uid, series_instance_uid: empty where the data set has none, or one that
            could not be the name of a file.
        peer_ae_title: of whoever sent it, as that says.
        size: of the data set, in bytes.
        operation: the C-STORE under way, with its request, presentation context and association.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    peer_ae_title: str
    size: int
    operation: Operation

    async def read(self, **options: Any) -> pydicom.FileDataset:
        """The object as a pydicom data set, read in a worker thread.

        Args:
            options: of `pydicom.dcmread`, as ``stop_before_pixels=True``; without that the whole
                object comes into memory.
        """
        import pydicom

        return await trio.to_thread.run_sync(partial(pydicom.dcmread, self.path, **options))


#: Called with each object; the status for its response, None for 0000H.
ObjectHandler = Callable[[ReceivedObject], Awaitable[int | None]]


class ObjectReceiver:
    """Storage SCP that calls a function for each object.

    It is a `Service` for a `ServiceRegistry`, and its `receive` a `Receiver` for
    `ClientAssociation.get`.

    The response to C-STORE leaves when the function has returned, with the status that it returns;
    None is 0000H.  An `OperationError` that it raises is the status as well; any other exception
    is a fault of ours, which `ServiceRegistry` logs and answers 0110H.

    The file is removed when the function has returned, unless that moved it away.  In memory there
    is about 1 MiB of each object.  Functions run at once, one for each operation under way: what
    bounds them are `ServerLimits` and the operations window of `serve`.

    When the association ends first, or the server is cancelled, the function is cancelled
    (`trio.Cancelled`), and the file removed.

    Args:
        handle: an ``async`` function; what blocks belongs into ``trio.to_thread.run_sync``.
        folder: where the files lie; None: in one of its own among the system's temporary files.
        sop_classes: what is accepted; None: every storage SOP class, and private ones.
        transfer_syntaxes: accepted, in the order of preference; None: all.
        statuses: what the function answers beside 0000H, and when, for a conformance statement.

    Raises:
        TypeError: *handle* is not ``async``.
        OSError: the folder cannot be made.
    """

    name = "receiving"
    _durable = False
    #: `receive` looks at them, also where no `ServiceRegistry` does.
    takes_raw_uids = True

    def __init__(
        self,
        handle: ObjectHandler,
        folder: str | Path | None = None,
        *,
        sop_classes: Collection[str] | None = None,
        transfer_syntaxes: Sequence[str] | None = None,
        statuses: Mapping[int, str] | None = None,
    ) -> None:
        _check_handler(handle)
        if folder is None:
            folder = tempfile.mkdtemp(prefix="isocenter-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._handle = handle
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sop_classes = None if sop_classes is None else frozenset(sop_classes)
        self._offer = Offer(transfer_syntaxes=tuple(transfer_syntaxes or TRANSFER_SYNTAXES))
        self._statuses = dict(statuses or {})

    @property
    def statuses(self) -> Statuses:
        """What is answered, and when."""
        return {
            Status.SUCCESS: "the object was taken",
            Status.INVALID_SOP_INSTANCE: "a UID is none",
            Status.OUT_OF_RESOURCES: "the file cannot be written",
            Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS: "command and data set name different objects",
            Status.CANNOT_UNDERSTAND: "no data set",
            **self._statuses,
        }

    def offer(self, abstract_syntax: str) -> Offer | None:
        """What is accepted for *abstract_syntax*; None: nothing."""
        if self._sop_classes is None:
            takes = abstract_syntax in STORAGE_SOP_CLASSES or is_private(abstract_syntax)
        else:
            takes = abstract_syntax in self._sop_classes
        return self._offer if takes else None

    async def perform(self, operation: Operation) -> None:
        """C-STORE: `receive`, and respond."""
        request = operation.request
        if not isinstance(request, CStoreRequest):
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        status = await self.receive(operation, request)
        await operation.respond(
            CStoreResponse(
                message_id_being_responded_to=request.message_id,
                status=status,
                affected_sop_class_uid=request.affected_sop_class_uid,
                affected_sop_instance_uid=request.affected_sop_instance_uid,
            )
        )

    async def receive(self, operation: Operation, request: CStoreRequest) -> int:
        """Take one object; the status for its response.

        Raises:
            OperationError: 0117H a UID is none, C000H no data set, A900H another object than
                announced, A700H the file cannot be written; or of the function.  No file stays.
        """
        staged = StagedObject(operation, request, self._folder, durable=self._durable)
        try:
            await staged.read()
            return await self._take(staged)
        finally:
            await staged.discard()

    async def _take(self, staged: StagedObject) -> int:
        """What becomes of an object that is whole; the status."""
        await staged.close()
        status = await self._handle(
            ReceivedObject(
                path=staged.path,
                sop_class_uid=staged.sop_class_uid,
                sop_instance_uid=staged.sop_instance_uid,
                study_instance_uid=staged.study_instance_uid,
                series_instance_uid=staged.series_instance_uid,
                transfer_syntax_uid=staged.operation.context.transfer_syntax,
                peer_ae_title=peer_ae_title(staged.operation),
                size=staged.size,
                operation=staged.operation,
            )
        )
        if status is None:
            return Status.SUCCESS
        if isinstance(status, bool) or not isinstance(status, int):
            raise TypeError(f"the function for received objects returned {status!r}, not a status")
        if not 0 <= status <= 0xFFFF or classify(status) is StatusClass.PENDING:
            raise ValueError(f"the function for received objects returned {status:04X}H, not final")
        return status


def _check_handler(handle: ObjectHandler) -> None:
    """Before the first object: it can be awaited.

    Raises:
        TypeError: it cannot.
    """
    if not callable(handle):
        raise TypeError(f"{handle!r} is no function")
    if inspect.isroutine(handle) and not inspect.iscoroutinefunction(handle):
        raise TypeError(
            f"{handle.__name__} is not async; write async def, and call what blocks with "
            "trio.to_thread.run_sync"
        )
