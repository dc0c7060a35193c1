"""File of an object that has no name until it is whole.

The name is made of validated UIDs and of nothing else that a peer says.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import IO, Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError, ElementScanner, Encoding
from isocenter.services.archive.object_keys import can_be_named, name_of_uid
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


class StagedFile:
    """A Part 10 file on its way: bytes are written as they come, and a data set is kept as it is.

    What is small is made, written and named in one go, which is one hop.

    Args:
        sop_instance_uid: one that can be the name of a file.
        head: what stands before the data set.
        encoding: of the data set.
        durable: sync the file before it gets its name, and the name before `publish` returns.

    Attributes:
        path: ``.<UID>.<8 hexadecimal digits>.part`` in the folder.
        study_instance_uid, series_instance_uid: empty where there is none that can be a name.
        found_uid: the SOP Instance UID that the data set says, as far as it was read.
        size: of the data set, in bytes.
    """

    def __init__(
        self,
        sop_instance_uid: str,
        head: Buffer,
        encoding: Encoding,
        folder: Path,
        *,
        durable: bool = False,
    ) -> None:
        self.sop_instance_uid = sop_instance_uid
        self.study_instance_uid = ""
        self.series_instance_uid = ""
        self.found_uid: str | None = None
        self.size = 0
        # The UID stands in front: who looks sees what is under way.
        self.path = folder / f".{name_of_uid(sop_instance_uid)}.{secrets.token_hex(4)}.part"
        self._durable = durable
        self._file: IO[bytes] | None = None
        self._is_there = False
        self._gathered = bytearray(head)
        self._scanner: ElementScanner | None = ElementScanner(encoding, _IDENTIFYING_TAGS)

    def gather(self, data: Buffer) -> bool:
        """Some of the data set; whether so much was gathered that it is to be written."""
        self.size += len(data)
        self._scan(data)
        self._gathered += data
        return len(self._gathered) >= _WRITE_BYTES

    async def write(self) -> None:
        """Write what was gathered.

        Raises:
            OSError: it cannot be written; so for all that follow.
        """
        await trio.to_thread.run_sync(self._write)

    async def close(self) -> None:
        """Write what was gathered; the file can be read then."""
        await trio.to_thread.run_sync(self._close)

    async def publish(self, target: Path, *, overwrite: bool) -> bool:
        """Give it its name; False: there is a file of that name, which stays."""
        return await trio.to_thread.run_sync(lambda: self._publish(target, overwrite))

    async def discard(self) -> None:
        """Leave nothing of what has not got its name."""
        if self._is_there:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._discard)

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
            self.identify()
        else:
            if len(self._scanner.values) == len(_IDENTIFYING_TAGS):
                self.identify()

    def identify(self) -> None:
        """The data set is here as far as it will come: who it is, and where it belongs."""
        if self._scanner is None:
            return
        values = {
            tag: value.rstrip(b"\0 ").decode("ascii", "replace")
            for tag, value in self._scanner.values.items()
            if isinstance(value, bytes)
        }
        self._scanner = None
        self.found_uid = values.get(_SOP_INSTANCE_UID)
        study, series = values.get(_STUDY_INSTANCE_UID, ""), values.get(_SERIES_INSTANCE_UID, "")
        self.study_instance_uid = study if can_be_named(study) else ""
        self.series_instance_uid = series if can_be_named(series) else ""


def write_all(file: IO[bytes], data: Buffer) -> None:
    """All of *data* into a file without a buffer."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
