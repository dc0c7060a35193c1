"""Object on its way into a Part 10 file, nameless until it is whole.

The data set is kept byte for byte and never held; the name is made of validated UIDs and of
nothing else that a peer says.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, TypeVar

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError, ElementScanner, encoding_of, write_file_meta
from isocenter.engine.dimse.message_codec import CStoreRequest
from isocenter.engine.dimse.status import Status
from isocenter.engine.negotiation import Role
from isocenter.engine.uid import is_safe_uid
from isocenter.services.archive.object_keys import can_be_named, name_of_uid
from isocenter.services.association.operation import Operation
from isocenter.services.errors import OperationError
from isocenter.services.system.private_files import sync_directory

_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_STUDY_INSTANCE_UID: Final = 0x0020000D
_SERIES_INSTANCE_UID: Final = 0x0020000E
_IDENTIFYING_TAGS: Final = frozenset(
    {_SOP_CLASS_UID, _SOP_INSTANCE_UID, _STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID}
)
#: Bytes that are gathered for one write: each costs a thread hop.
_WRITE_BYTES: Final = 1 << 20

T = TypeVar("T")


class StagedObject:
    """The object of one C-STORE, whole when `read` has returned.

    What is small is made, written and named in one go, which is one hop.

    Args:
        durable: sync the file before it gets its name, and the name before `publish` returns.

    Attributes:
        path: ``.<UID>.<8 hexadecimal digits>.part`` in the folder.
        study_instance_uid, series_instance_uid: empty where there is none that can be a name.
        size: of the data set, in bytes.

    Raises on construction:
        OperationError: 0117H a UID is none, C000H no data set.
    """

    def __init__(
        self, operation: Operation, request: CStoreRequest, folder: Path, *, durable: bool = False
    ) -> None:
        sop_class_uid, uid = request.affected_sop_class_uid, request.affected_sop_instance_uid
        if not is_safe_uid(sop_class_uid) or not can_be_named(uid):
            raise OperationError(Status.INVALID_SOP_INSTANCE, "SOP class or instance is not a UID")
        if not operation.has_data_set:
            raise OperationError(Status.CANNOT_UNDERSTAND, "C-STORE-RQ without a data set")
        self.operation = operation
        self.sop_class_uid = sop_class_uid
        self.sop_instance_uid = uid
        self.study_instance_uid = ""
        self.series_instance_uid = ""
        self.size = 0
        # The UID stands in front: who looks sees what is under way.
        self.path = folder / f".{name_of_uid(uid)}.{secrets.token_hex(4)}.part"
        self._durable = durable
        self._file: IO[bytes] | None = None
        self._is_there = False
        self._found_uid: str | None = None
        syntax = operation.context.transfer_syntax
        self._gathered = bytearray(
            write_file_meta(sop_class_uid, uid, syntax, peer_ae_title(operation))
        )
        self._scanner: ElementScanner | None = ElementScanner(
            encoding_of(syntax), _IDENTIFYING_TAGS
        )

    async def read(self) -> None:
        """Take the data set as it comes.

        Raises:
            OperationError: A900H another object than announced, A700H it cannot be written.
        """
        async for group in self.operation.fragments():
            for data in group:
                self.size += len(data)
                self._scan(data)
                self._gathered += data
            if len(self._gathered) >= _WRITE_BYTES:
                await self._in_thread(self._write)
        self._identify()
        # Not before it is there: peers do not look for a response while they send.
        if self._found_uid not in (None, self.sop_instance_uid):
            raise OperationError(
                Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
                "SOP Instance UID differs between command and data set",
                (_SOP_INSTANCE_UID,),
            )

    async def close(self) -> None:
        """Write what was gathered; the file can be read then.

        Raises:
            OperationError: A700H.
        """
        await self._in_thread(self._close)

    async def publish(self, target: Path, *, overwrite: bool) -> bool:
        """Give it its name; False: there is a file of that name, which stays.

        Raises:
            OperationError: A700H.
        """
        return await self._in_thread(lambda: self._publish(target, overwrite))

    async def discard(self) -> None:
        """Leave nothing of what has not got its name."""
        if self._is_there:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._discard)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await trio.to_thread.run_sync(work)
        except OSError as error:
            raise OperationError(Status.OUT_OF_RESOURCES, error.strerror or "") from error

    # In worker threads.

    def _write(self) -> None:
        if self._file is None:
            self._file = self.path.open("xb", buffering=0)
            self._is_there = True
        write_all(self._file, self._gathered)
        self._gathered = bytearray()

    def _close(self) -> None:
        if self._file is None or not self._file.closed:
            self._write()
            assert self._file is not None
            if self._durable:
                os.fsync(self._file.fileno())
            self._file.close()

    def _publish(self, target: Path, overwrite: bool) -> bool:
        self._close()
        parents = (target.parent, *target.parent.parents)
        # The name of a new folder stands in the one above it.
        changed = [parents[0], *(one.parent for one in parents if not one.exists())]
        target.parent.mkdir(parents=True, exist_ok=True)
        is_new = self._name(target, overwrite)
        if self._durable and is_new:
            try:
                for folder in changed:
                    sync_directory(folder)
            except OSError:
                target.unlink(missing_ok=True)
                raise
        return is_new

    def _name(self, target: Path, overwrite: bool) -> bool:
        is_new = True
        if overwrite:
            self.path.replace(target)
        else:
            try:
                os.link(self.path, target)
            except FileExistsError:
                is_new = False
            except OSError:
                # A file system without hard links: nobody else is expected to write here.
                if not target.exists():
                    self.path.replace(target)
                    self._is_there = False
                    return True
                is_new = False
            self.path.unlink()
        self._is_there = False
        return is_new

    def _discard(self) -> None:
        if self._file is not None:
            self._file.close()
        self.path.unlink(missing_ok=True)
        self._is_there = False

    # Where it belongs.

    def _scan(self, data: Buffer) -> None:
        if self._scanner is None:
            return
        try:
            self._scanner.feed(data)
        except DataSetError:
            # Not ours to refuse: the peer has it so.  What was read so far names it.
            self._identify()
        else:
            if len(self._scanner.values) == len(_IDENTIFYING_TAGS):
                self._identify()

    def _identify(self) -> None:
        if self._scanner is None:
            return
        values = {
            tag: value.rstrip(b"\0 ").decode("ascii", "replace")
            for tag, value in self._scanner.values.items()
            if isinstance(value, bytes)
        }
        self._scanner = None
        self._found_uid = values.get(_SOP_INSTANCE_UID)
        study, series = values.get(_STUDY_INSTANCE_UID, ""), values.get(_SERIES_INSTANCE_UID, "")
        self.study_instance_uid = study if can_be_named(study) else ""
        self.series_instance_uid = series if can_be_named(series) else ""


def peer_ae_title(operation: Operation) -> str:
    """The AE title of whoever sends; empty where it is not ASCII."""
    negotiated = operation.association.negotiated
    is_ours = negotiated.role is Role.ACCEPTOR
    title = negotiated.calling_ae_title if is_ours else negotiated.called_ae_title
    return title if title.isascii() else ""


def write_all(file: IO[bytes], data: Buffer) -> None:
    """All of *data* into a file without a buffer."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
