"""What the SCP examples share: what they offer, what they refuse, and how they store safely.

Nothing of a driver is here: how bytes move is what the examples differ in.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from isocenter.engine import (
    DEFAULT_LIMITS,
    VERIFICATION,
    Acceptor,
    Arrived,
    AssociateReject,
    CEchoRequest,
    CStoreRequest,
    Incoming,
    Negotiated,
    PresentationContext,
    Request,
    Sink,
    Status,
    commands,
    events,
    is_ae_title,
    is_request,
    is_safe_uid,
    refusal_of,
    response_to,
    storage_offer,
)
from isocenter.engine.dataset import write_file_meta

ACCEPTOR = Acceptor(offer=storage_offer, max_pdu_length=DEFAULT_LIMITS.max_pdu_length)
#: Associations at once; the next is told to come again (PS3.8 Table 9-21).
MOST_ASSOCIATIONS = 100
LOCAL_LIMIT_EXCEEDED = AssociateReject(2, 3, 2)
#: How the names of files start that are not complete.
TEMPORARY = ".incoming-"


def status_to_refuse(
    context: PresentationContext, request: Request, has_data_set: bool
) -> int | None:
    """Why *request* is not performed; None: it is."""
    refusal = refusal_of(context, request)
    if refusal is not None:
        return refusal.status
    match request:
        case CEchoRequest():
            return None
        case CStoreRequest() if context.abstract_syntax == VERIFICATION:
            return Status.UNRECOGNIZED_OPERATION
        case CStoreRequest() if not has_data_set:
            return Status.CANNOT_UNDERSTAND
        case CStoreRequest(affected_sop_class_uid=sop_class, affected_sop_instance_uid=instance):
            # Both become text in a file, and one of them the name of it.
            is_safe = is_safe_uid(sop_class) and is_safe_uid(instance)
            return None if is_safe else Status.INVALID_SOP_INSTANCE
        case _:
            return Status.UNRECOGNIZED_OPERATION


class IncomingObject:
    """A C-STORE while its data set comes: a temporary file that gets its name at the end."""

    def __init__(self, folder: Path, request: CStoreRequest) -> None:
        self._folder = folder
        self._request = request
        self._file: BinaryIO | None = None
        self._path = Path()

    def begin(self, context: PresentationContext, negotiated: Negotiated) -> int | None:
        """Make the temporary file, with the File Meta Information in it; a status: it failed."""
        calling = negotiated.calling_ae_title
        head = write_file_meta(
            self._request.affected_sop_class_uid,
            self._request.affected_sop_instance_uid,
            context.transfer_syntax,
            calling if is_ae_title(calling) else "",
        )
        try:
            number, name = tempfile.mkstemp(dir=self._folder, prefix=TEMPORARY)
            self._path, self._file = Path(name), os.fdopen(number, "wb")
        except OSError:
            return Status.OUT_OF_RESOURCES
        return self.write(memoryview(head))

    def write(self, data: memoryview) -> int | None:
        """Take a part of the data set: it goes to the page cache, only the sync has to wait.

        A status: it failed, and nothing is kept.
        """
        if self._file is None:
            return Status.OUT_OF_RESOURCES
        try:
            self._file.write(data)
        except OSError:
            self.discard()
            return Status.OUT_OF_RESOURCES
        return None

    def commit(self) -> int:
        """Give the object its name once its bytes are durable; blocks, so not for an event loop."""
        if self._file is None:
            return Status.OUT_OF_RESOURCES
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._path.replace(self._folder / f"{self._request.affected_sop_instance_uid}.dcm")
            self._file = None
            sync_folder(self._folder)
        except OSError:
            self.discard()
            return Status.OUT_OF_RESOURCES
        return Status.SUCCESS

    def discard(self) -> None:
        """Leave no trace."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
            self._path.unlink(missing_ok=True)


class Receiving:
    """What one association brings: each request is answered once, when it is whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = Incoming()
        self._object: IncomingObject | None = None

    def begin(self, event: events.MessageReceived, negotiated: Negotiated) -> Arrived | None:
        """A request; what is whole with it."""
        return self._incoming.begin(event, self._to(event, negotiated))

    def add(self, event: events.DataSetReceived) -> Arrived | None:
        """The next part of its data set; what is whole with it."""
        return self._incoming.add(event)

    @property
    def has_object(self) -> bool:
        """Whether `answer` has to wait for the disk."""
        return self._object is not None

    def answer(self, arrived: Arrived) -> commands.SendMessage:
        """The one place at which a request is answered; blocks until an object is durable."""
        status, incoming, self._object = arrived.status, self._object, None
        if status is None:
            status = Status.SUCCESS if incoming is None else incoming.commit()
        assert is_request(arrived.message)
        return commands.SendMessage(arrived.context_id, response_to(arrived.message, status))

    def discard(self) -> None:
        """Leave no trace of what is not complete."""
        self._incoming.forget()
        if self._object is not None:
            self._object.discard()
            self._object = None

    def _to(self, event: events.MessageReceived, negotiated: Negotiated) -> Sink | int | None:
        """Where the data set of a request goes, or what the request is refused with."""
        context, request = negotiated.contexts[event.context_id], event.message
        assert is_request(request)
        status = status_to_refuse(context, request, event.has_data_set)
        if status is not None or not isinstance(request, CStoreRequest):
            return status
        self._object = IncomingObject(self._folder, request)
        status = self._object.begin(context, negotiated)
        return self._object.write if status is None else status


def sync_folder(folder: Path) -> None:
    """Make the names in *folder* durable."""
    if os.name == "nt":
        return  # folders cannot be opened there; NTFS keeps a journal of names
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def prepare(folder: Path) -> None:
    """Make the folder, and remove what a run that was killed has left."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for leftover in folder.glob(f"{TEMPORARY}*"):
        leftover.unlink()
