"""Objects that come back from a peer, as Part 10 files in a folder.

Names are made of validated UIDs and of nothing else that a peer says.  A file has its
name only when it is whole; the data set is kept byte for byte and never held.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import IO, Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError, ElementScanner, encoding_of, write_file_meta
from isocenter.engine.dimse.messages import CStoreRequest, CStoreResponse
from isocenter.engine.dimse.status import Status
from isocenter.engine.negotiation import Offer
from isocenter.engine.quick import dataclass
from isocenter.engine.uid import is_safe_uid
from isocenter.services.archive.naming import can_be_named, name_of_uid
from isocenter.services.cli.common import UsageError
from isocenter.services.errors import OperationError
from isocenter.services.operations import Operation
from isocenter.services.registry import Statuses
from isocenter.services.sop_classes import STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES, is_private

_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_STUDY_INSTANCE_UID: Final = 0x0020000D
_SERIES_INSTANCE_UID: Final = 0x0020000E
_NAMING_TAGS: Final = frozenset(
    {_SOP_CLASS_UID, _SOP_INSTANCE_UID, _STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID}
)
#: Bytes that are gathered for one write: each costs a thread hop.
_WRITE_BYTES: Final = 1 << 20

_FIELDS: Final = ("study", "series", "instance", "class")
_FIELD: Final = re.compile(r"\{(\w+)\}")
#: What else may stand in a name pattern.
_LITERAL: Final = re.compile(r"[A-Za-z0-9_.,=@~ -]*")
STRUCTURES: Final = {"hierarchical": "{study}/{series}/{instance}.dcm", "flat": "{instance}.dcm"}
#: Where an object without a valid study or series goes.
_UNKNOWN: Final = "unknown"


def add_receiving_options(parser: argparse.ArgumentParser) -> None:
    """``-od`` and how files are named."""
    group = parser.add_argument_group("files")
    group.add_argument(
        "-od",
        "--output-directory",
        "--output-dir",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where objects go; it is made when it is missing (default: .)",
    )
    group.add_argument(
        "--structure",
        choices=tuple(STRUCTURES),
        default="hierarchical",
        help="a folder for each study and series, or none (default: %(default)s)",
    )
    group.add_argument(
        "--output-format",
        type=_pattern,
        metavar="P",
        help="names of files from {study}, {series}, {instance} and {class}, which are UIDs "
        "(default: " + STRUCTURES["hierarchical"] + ")",
    )
    group.add_argument(
        "--overwrite", action="store_true", help="replace files that are there (default: keep them)"
    )
    group.add_argument(
        "+B", "--bit-preserving", action="store_true", help="data sets as they come (always so)"
    )


def _pattern(text: str) -> str:
    parts = text.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} must be relative, without empty parts and ..")
    if "{instance}" not in parts[-1]:
        raise argparse.ArgumentTypeError(f"{text!r} needs {{instance}} in the name of the file")
    unknown = [name for name in _FIELD.findall(text) if name not in _FIELDS]
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in _FIELDS)
        raise argparse.ArgumentTypeError(f"{{{unknown[0]}}} is none of {known}")
    if not all(_LITERAL.fullmatch(_FIELD.sub("", part)) for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r}: beside the fields only letters, digits and . _ , = @ ~ - are allowed"
        )
    return text


@dataclass(slots=True)
class Received:
    """What came: files written, files that were there and stay, objects refused, bytes."""

    written: int = 0
    kept: int = 0
    failed: int = 0
    size: int = 0
    #: SOP Instance UID and reason of the last failures, for messages.
    failures: list[tuple[str, str]] = field(default_factory=list)


class ObjectFolder:
    """Takes C-STORE operations; its `receive` is a `Receiver`, itself a `Service`.

    Raises on construction:
        UsageError: the folder cannot be made.
    """

    name = "receiving"
    #: What is refused is counted here.
    takes_raw_uids = True

    def __init__(
        self,
        folder: Path,
        pattern: str,
        *,
        overwrite: bool = False,
        on_progress: Callable[[Received], None] = lambda received: None,
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{folder}: {error.strerror}; choose another folder with -od"
            ) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"{folder} cannot be written; choose another folder with -od")
        self.received = Received()
        self._folder = folder
        self._pattern = pattern
        self._overwrite = overwrite
        self._on_progress = on_progress
        self._offer = Offer(transfer_syntaxes=tuple(TRANSFER_SYNTAXES))

    @classmethod
    def of(
        cls, arguments: argparse.Namespace, on_progress: Callable[[Received], None]
    ) -> ObjectFolder:
        """As the options say."""
        return cls(
            arguments.output_directory,
            arguments.output_format or STRUCTURES[arguments.structure],
            overwrite=arguments.overwrite,
            on_progress=on_progress,
        )

    statuses: Final[Statuses] = {
        Status.SUCCESS: "the file is written",
        Status.INVALID_SOP_INSTANCE: "a UID is none",
        Status.OUT_OF_RESOURCES: "the file cannot be written",
        Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS: "command and data set name different objects",
        Status.CANNOT_UNDERSTAND: "no data set",
    }

    def offer(self, abstract_syntax: str) -> Offer | None:
        """Every storage SOP class, private ones too: whoever asked for objects wants them."""
        if abstract_syntax in STORAGE_SOP_CLASSES or is_private(abstract_syntax):
            return self._offer
        return None

    async def perform(self, operation: Operation) -> None:
        """As SCP of an association of its own (C-MOVE)."""
        request = operation.request
        if not isinstance(request, CStoreRequest):
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        try:
            status = await self.receive(operation, request)
        except OSError as error:
            raise OperationError(Status.OUT_OF_RESOURCES, error.strerror or "") from error
        await operation.respond(
            CStoreResponse(
                message_id_being_responded_to=request.message_id,
                status=status,
                affected_sop_class_uid=request.affected_sop_class_uid,
                affected_sop_instance_uid=request.affected_sop_instance_uid,
            )
        )

    async def receive(self, operation: Operation, request: CStoreRequest) -> int:
        """Write one object; the status for its response.

        Raises:
            OperationError: 0117H a UID is none, A900H another object than announced.
            OSError: it cannot be written.  Nothing is left of it.
        """
        try:
            await self._receive(operation, request)
        except OSError as error:
            self._failed(request, error.strerror or "cannot be written")
            raise
        except OperationError as error:
            self._failed(request, str(error))
            raise
        finally:
            self._on_progress(self.received)
        return Status.SUCCESS

    def _failed(self, request: CStoreRequest, reason: str) -> None:
        self.received.failed += 1
        self.received.failures = [
            *self.received.failures[-9:],
            (request.affected_sop_instance_uid, reason),
        ]

    async def _receive(self, operation: Operation, request: CStoreRequest) -> None:
        sop_class_uid, uid = request.affected_sop_class_uid, request.affected_sop_instance_uid
        if not is_safe_uid(sop_class_uid) or not can_be_named(uid):
            raise OperationError(Status.INVALID_SOP_INSTANCE, "SOP class or instance is not a UID")
        if not operation.has_data_set:
            raise OperationError(Status.CANNOT_UNDERSTAND, "C-STORE-RQ without a data set")
        syntax = operation.context.transfer_syntax
        head = write_file_meta(
            sop_class_uid, uid, syntax, _ascii(operation.association.negotiated.called_ae_title)
        )
        naming = _Naming(sop_class_uid, uid, syntax)
        part = _PartFile(self._folder, uid)
        try:
            gathered = bytearray(head)
            async for group in operation.fragments():
                for data in group:
                    self.received.size += len(data)
                    naming.feed(data)
                    gathered += data
                if len(gathered) >= _WRITE_BYTES:
                    await trio.to_thread.run_sync(part.write, gathered)
                    gathered = bytearray()
            naming.check()
            target = self._folder / naming.path(self._pattern)
            is_new = await trio.to_thread.run_sync(part.publish, gathered, target, self._overwrite)
        finally:
            if part.is_there:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(part.discard)
        if is_new:
            self.received.written += 1
        else:
            self.received.kept += 1


def _ascii(text: str) -> str:
    return text if text.isascii() else ""


class _Naming:
    """Finds out, while the data set passes, where it belongs."""

    def __init__(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> None:
        self._class = sop_class_uid
        self._instance = sop_instance_uid
        self._scanner: ElementScanner | None = ElementScanner(
            encoding_of(transfer_syntax_uid), _NAMING_TAGS
        )
        self._values: dict[int, str] = {}

    def feed(self, data: Buffer) -> None:
        if self._scanner is None:
            return
        try:
            self._scanner.feed(data)
        except DataSetError:
            # Not ours to refuse: the peer has it so.  What was read so far names it.
            self._take()
        else:
            if len(self._scanner.values) == len(_NAMING_TAGS):
                self._take()

    def _take(self) -> None:
        if self._scanner is not None:
            self._values = {
                tag: value.rstrip(b"\0 ").decode("ascii", "replace")
                for tag, value in self._scanner.values.items()
                if isinstance(value, bytes)
            }
            self._scanner = None

    def check(self) -> None:
        """The object is the one that was announced.

        Raises:
            OperationError: A900H.
        """
        self._take()
        found = self._values.get(_SOP_INSTANCE_UID)
        if found is not None and found != self._instance:
            raise OperationError(
                Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
                "SOP Instance UID differs between command and data set",
                (_SOP_INSTANCE_UID,),
            )

    def path(self, pattern: str) -> str:
        """*pattern* with the UIDs in it."""

        def uid(tag: int) -> str:
            value = self._values.get(tag, "")
            return name_of_uid(value) if can_be_named(value) else _UNKNOWN

        names = {
            "instance": name_of_uid(self._instance),
            "class": self._class,
            "study": uid(_STUDY_INSTANCE_UID),
            "series": uid(_SERIES_INSTANCE_UID),
        }
        return _FIELD.sub(lambda match: names[match[1]], pattern)


class _PartFile:
    """A file without its name yet; its methods run in worker threads.

    Small objects are made, written and named in one go, which is one hop.

    Attributes:
        is_there: something has to be discarded.
    """

    def __init__(self, folder: Path, uid: str) -> None:
        # The UID stands in front: who looks sees what is under way.
        self._path = folder / f".{name_of_uid(uid)}.{secrets.token_hex(4)}.part"
        self._file: IO[bytes] | None = None
        self.is_there = False

    def write(self, data: bytearray) -> None:
        """Append."""
        if self._file is None:
            self._file = self._path.open("xb", buffering=0)
            self.is_there = True
        _write_all(self._file, data)

    def publish(self, data: bytearray, target: Path, overwrite: bool) -> bool:
        """Append the rest and give it its name; False: there is one of that name, which stays."""
        self.write(data)
        assert self._file is not None
        self._file.close()
        target.parent.mkdir(parents=True, exist_ok=True)
        is_new = True
        if overwrite:
            self._path.replace(target)
        else:
            try:
                os.link(self._path, target)
            except FileExistsError:
                is_new = False
            except OSError:
                # A file system without hard links: nobody else is expected to write here.
                if not target.exists():
                    self._path.replace(target)
                    self.is_there = False
                    return True
                is_new = False
            self._path.unlink()
        self.is_there = False
        return is_new

    def discard(self) -> None:
        """Leave nothing of it."""
        if self._file is not None:
            self._file.close()
        self._path.unlink(missing_ok=True)
        self.is_there = False


def _write_all(file: IO[bytes], data: bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
