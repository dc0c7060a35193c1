"""``isocenter storescu``: files and folders to a peer (PS3.4 Annex B).

Files are looked at in blocks: what is held at once has a bound, however many there are.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import stat
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Final, Self

import orjson
import trio

from isocenter.engine.dataset import DataSetError
from isocenter.engine.dimse.status import StatusClass, classify
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.association.requestor import Context, InvokingAssociation
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.client_command import CannotAssociateError, Client, run_client
from isocenter.services.cli.support.options import UsageError, add_network_options, check_paths
from isocenter.services.cli.support.retrieve_output import describe_answer
from isocenter.services.cli.support.terminal import Advance
from isocenter.services.cli.support.transfer_syntaxes import (
    Groups,
    add_transfer_syntax_options,
    transfer_syntaxes_of,
)
from isocenter.services.dicom.objects import DamagedFileError, DicomObject, NotDicomFileError
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.errors import (
    NoPresentationContextError,
    OperationError,
    StorageError,
    has_failed,
    text_of,
)
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.storage.contexts import no_targets, plan_associations
from isocenter.services.service_classes.storage.retrieve_contexts import contexts_of
from isocenter.services.service_classes.storage.scu import OPERATIONS_WINDOW, Transfer, store_object

DESCRIPTION: Final = """\
Send files, and all files below folders, to a peer (C-STORE).  What is not DICOM is named
and counted; an object that the peer does not take does not keep the others."""
EXAMPLES: Final = """\
examples:
  isocenter storescu ISOCENTER@localhost:11112 ct.dcm
  isocenter storescu ISOCENTER@localhost:11112 /media/cdrom --report-file report.jsonl
  isocenter storescu -aet CT1 -aec ISOCENTER archive 11112 +sd +r /data --scan-pattern '*.dcm'
  isocenter storescu -aet CT1 -aec ISOCENTER +tls CT1.key CT1.crt +cf ca.crt archive 2762 a.dcm

exit codes: 0 every file that is or could be DICOM was stored, 1 some were not, 2 arguments or no
association"""

#: Files that are looked at before they are sent: the contexts of an association follow.
FILES_PER_BLOCK: Final = 1_000
#: Files that are no DICOM and named without ``-v``.
_NAMED: Final = 20
_MOST_CONTEXTS: Final = 128


def add_arguments(parser: CommandParser) -> None:
    """The options of storescu."""
    add_network_options(parser, calling="STORESCU", timeout=30, what_follows="PATH …")
    group = parser.add_argument_group("files")
    group.add_argument(
        "-r",
        "+r",
        "--recurse",
        "--recursive",
        "+sd",
        "--scan-directories",
        action="store_true",
        help="folders with all below them (always so)",
    )
    group.add_argument(
        "+sp",
        "--scan-pattern",
        metavar="P",
        default="*",
        help="names of files to take from folders, * and ? as wild cards (default: *)",
    )
    on_error = group.add_mutually_exclusive_group()
    on_error.add_argument(
        "--continue-on-error",
        "-nh",
        "--no-halt",
        action="store_true",
        help="send the others when one fails (default)",
    )
    on_error.add_argument(
        "--stop-on-error", action="store_true", help="end at the first object that fails"
    )
    group.add_argument(
        "--report-file",
        type=Path,
        metavar="F",
        help="write one line of JSON for each file; - is standard output",
    )
    group.add_argument(
        "-R", "--required", action="store_true", help="propose only what is needed (always so)"
    )
    group.add_argument(
        "--no-transcode",
        dest="transcode",
        action="store_false",
        help="do not decode objects whose transfer syntax the peer does not take",
    )
    group.add_argument("-p", "--progress", action="store_true", default=True, help="default")
    group.add_argument(
        "--no-progress", dest="progress", action="store_false", help="no progress bar"
    )
    add_transfer_syntax_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Send the files; the exit code."""

    async def work(client: Client, rest: list[str]) -> int:
        if not rest:
            raise UsageError("nothing to send; give files or folders behind the peer")
        check_paths(rest)
        with (
            _Report(arguments.report_file) as report,
            client.terminal.progress("sending", wanted=arguments.progress) as advance,
        ):
            async with CodecPool() as pool:
                sender = _Sender(
                    client,
                    report,
                    advance,
                    stop_on_error=arguments.stop_on_error,
                    syntaxes=transfer_syntaxes_of(arguments),
                    transcoder=Transcoder(pool) if arguments.transcode else None,
                )
                return await sender.send_all(files_below(rest, arguments.scan_pattern))

    return run_client(arguments, work)


# -- Files -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to look at, or why that cannot be."""

    path: str
    fault: str = ""


def files_below(paths: Sequence[str], pattern: str) -> Iterator[FoundFile]:
    """Files at and below *paths*; symbolic links are followed where they are given only."""
    for path in paths:
        todo = deque([path])
        while todo:
            at = todo.popleft()
            try:
                mode = os.stat(at).st_mode
                if at is path and not stat.S_ISDIR(mode):
                    yield FoundFile(at, "" if stat.S_ISREG(mode) else "not a regular file")
                    continue
                below: list[str] = []
                with os.scandir(at) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            below.append(entry.path)
                        elif entry.is_file(follow_symlinks=False) and fnmatch.fnmatch(
                            entry.name, pattern
                        ):
                            yield FoundFile(entry.path)
                todo.extendleft(sorted(below, reverse=True))
            except OSError as error:
                yield FoundFile(at, text_of(error))


class _Report:
    """One line of JSON for each file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._own = False

    def __enter__(self) -> Self:
        if self._path is None:
            return self
        if str(self._path) == "-":
            self._file = sys.stdout.buffer
            return self
        try:
            self._file = self._path.open("wb")
        except OSError as error:
            raise UsageError(f"--report-file {self._path}: {text_of(error)}") from error
        self._own = True
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.flush()
            if self._own:
                self._file.close()

    def write(self, path: str, outcome: str, **more: object) -> None:
        if self._file is not None:
            entry = {"path": path, "outcome": outcome} | more
            # Names of files may hold bytes that are no text.
            clean = {
                key: value.encode("utf-8", "backslashreplace").decode()
                if isinstance(value, str)
                else value
                for key, value in entry.items()
            }
            self._file.write(orjson.dumps(clean) + b"\n")


# -- Sending -----------------------------------------------------------------------------


@dataclass(slots=True)
class _Counts:
    seen: int = 0
    sent: int = 0
    warned: int = 0
    failed: int = 0
    not_dicom: int = 0
    unreadable: int = 0


@dataclass(slots=True)
class _Sender:
    client: Client
    report: _Report
    advance: Advance
    stop_on_error: bool
    syntaxes: Groups
    transcoder: Transcoder | None
    counts: _Counts = field(default_factory=_Counts)
    _is_complete: bool = False

    async def send_all(self, files: Iterator[FoundFile]) -> int:
        """Send what is DICOM among *files*; the exit code."""
        terminal, counts = self.client.terminal, self.counts
        started = trio.current_time()
        try:
            while not self._should_stop():
                block = await trio.to_thread.run_sync(lambda: list(islice(files, FILES_PER_BLOCK)))
                if not block:
                    break
                self._is_complete = len(block) < FILES_PER_BLOCK
                objects: list[DicomObject] = []
                with self.client.interrupts.stoppable():
                    objects = await self._open_objects(block)
                await self._send_block(objects)
        except CannotAssociateError:
            if not counts.sent:
                raise
            terminal.error("the association cannot be established again; the rest was not sent")
            counts.failed += 1
            raise
        finally:
            if counts.seen:
                terminal.note(self._summary(trio.current_time() - started))
        if self.client.interrupts.were_requested():
            return EXIT_INTERRUPTED
        if not counts.sent and not counts.failed and not counts.unreadable:
            terminal.error("no file is DICOM; nothing was sent")
            return EXIT_FAILED
        return EXIT_FAILED if counts.failed or counts.unreadable else EXIT_OK

    def _should_stop(self) -> bool:
        counts = self.counts
        return self.client.interrupts.were_requested() or bool(
            self.stop_on_error and (counts.failed or counts.unreadable)
        )

    def _summary(self, seconds: float) -> str:
        counts = self.counts
        text = f"{counts.sent} sent in {seconds:.1f} s"
        if counts.warned:
            text += f" ({counts.warned} with a warning)"
        for count, what in (
            (counts.failed, "failed"),
            (counts.unreadable, "cannot be read"),
            (counts.not_dicom, "not DICOM"),
        ):
            if count:
                text += f", {count} {what}"
        return text

    async def _open_objects(self, block: Sequence[FoundFile]) -> list[DicomObject]:
        objects = []
        for found in block:
            self.counts.seen += 1
            try:
                if found.fault:
                    raise OSError(0, found.fault)
                objects.append(await DicomObject.from_file(found.path))
            except DamagedFileError as error:
                self.counts.unreadable += 1
                self.report.write(found.path, "damaged", reason=str(error))
                self.client.terminal.error(str(error))
                if self.stop_on_error:
                    break
            except NotDicomFileError as error:
                self.counts.not_dicom += 1
                self.report.write(found.path, "not DICOM", reason=str(error))
                self._name_not_dicom(error)
            except OSError as error:
                self.counts.unreadable += 1
                reason = text_of(error)
                self.report.write(found.path, "unreadable", reason=reason)
                self.client.terminal.error(f"{found.path}: {reason}")
                if self.stop_on_error:
                    break
        return objects

    def _name_not_dicom(self, error: NotDicomFileError) -> None:
        terminal = self.client.terminal
        if terminal.is_verbose or self.counts.not_dicom <= _NAMED:
            terminal.note(f"skipped {error}")
        elif self.counts.not_dicom == _NAMED + 1:
            terminal.note("skipped more that is not DICOM; -v names all")

    def _plan(
        self, objects: Sequence[DicomObject]
    ) -> list[tuple[list[Context], list[DicomObject]]]:
        if not self.syntaxes:
            return plan_associations(
                objects,
                lambda item: (item.sop_class_uid, item.transfer_syntax_uid),
                no_targets if self.transcoder is None else self.transcoder.targets,
            )
        # What the user wants proposed, for as many SOP classes as fit.
        by_class: dict[str, list[DicomObject]] = {}
        for item in objects:
            by_class.setdefault(item.sop_class_uid, []).append(item)
        classes = list(by_class)
        room = max(1, _MOST_CONTEXTS // len(self.syntaxes))
        plans: list[tuple[list[Context], list[DicomObject]]] = []
        for start in range(0, len(classes), room):
            chosen = classes[start : start + room]
            contexts: list[Context] = contexts_of(chosen, self.syntaxes, _MOST_CONTEXTS)
            plans.append((contexts, [item for uid in chosen for item in by_class[uid]]))
        return plans

    async def _send_block(self, objects: Sequence[DicomObject]) -> None:
        for contexts, planned in self._plan(objects):
            if self._should_stop():
                return
            transfer = Transfer(
                planned, send=self._send, lose=self._lose, is_over=self._should_stop
            )
            await transfer.send_over_associations(partial(self._associate, contexts))
            if isinstance(transfer.fault, CannotAssociateError):
                raise transfer.fault
            if transfer.fault is not None:
                raise CannotAssociateError(
                    f"the peer ends one association after the other: {transfer.fault}"
                )

    @asynccontextmanager
    async def _associate(self, contexts: Sequence[Context]) -> AsyncIterator[ClientAssociation]:
        client = self.client
        window = 1 if self.stop_on_error else OPERATIONS_WINDOW
        async with client.associate(contexts, operations_window=window) as association:
            with client.interrupts.stoppable():
                yield association
            if client.interrupts.were_requested():
                await association.abort()  # an object may be half sent

    def _lose(self, item: DicomObject, error: IsocenterError) -> None:
        self._take_down(item, None, str(error), trio.current_time())

    async def _send(self, association: InvokingAssociation, item: DicomObject) -> None:
        """Send one and say what became of it.

        Raises:
            AssociationError: the association ended; nothing is said.
        """
        started = trio.current_time()
        reason = ""
        status: int | None = None
        try:
            response = await store_object(association, item, transcoder=self.transcoder)
            status = response.status
            if classify(status) is StatusClass.WARNING:
                reason = f"the peer answered {describe_answer(status, response.error_comment)}"
        except OperationError as error:
            status = error.status
            reason = f"the peer answered {error}"
        except NoPresentationContextError as error:
            reason = f"{error}; see what the peer is configured to take"
        except (StorageError, DataSetError, PixelError) as error:
            reason = f"cannot be sent: {error}"
        except OSError as error:
            reason = f"cannot be read: {text_of(error)}"
        self._take_down(item, status, reason, started)

    def _take_down(
        self, item: DicomObject, status: int | None, reason: str, started: float
    ) -> None:
        counts, terminal = self.counts, self.client.terminal
        is_stored = status is not None and not has_failed(status)
        if status is not None and classify(status) is StatusClass.WARNING:
            counts.warned += 1
        if is_stored:
            counts.sent += 1
            terminal.detail(f"sent {item.name}")
        else:
            counts.failed += 1
        if reason:
            terminal.error(f"{item.name}: {reason}")
        self.report.write(
            item.name,
            "sent" if is_stored else "failed",
            sop_class_uid=item.sop_class_uid,
            sop_instance_uid=item.sop_instance_uid,
            transfer_syntax_uid=item.transfer_syntax_uid,
            status=None if status is None else f"{status:04X}",
            reason=reason,
            seconds=round(trio.current_time() - started, 6),
        )
        done = counts.sent + counts.failed
        self.advance(done, counts.seen - counts.not_dicom if self._is_complete else None)
