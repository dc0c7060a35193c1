"""Files that a command sends: found below folders, opened in blocks, counted, reported.

What is held at once has a bound, however many files there are.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import stat
import sys
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import field
from itertools import islice
from pathlib import Path
from typing import IO, Final, Self

import orjson
import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.client_command import Interrupts
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.terminal import Advance, Terminal
from isocenter.services.dicom.objects import DamagedFileError, DicomObject, NotDicomFileError
from isocenter.services.errors import text_of

#: Files that are looked at before they are sent.
FILES_PER_BLOCK: Final = 1_000
#: Files that are no DICOM and named without ``-v``.
_NAMED: Final = 20


def add_sending_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Which files are taken, and what becomes of errors; the group, for more of it."""
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
    group.add_argument("-p", "--progress", action="store_true", default=True, help="default")
    group.add_argument(
        "--no-progress", dest="progress", action="store_false", help="no progress bar"
    )
    return group


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


class ObjectReport:
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


@dataclass(slots=True)
class SentCounts:
    """What became of files so far."""

    seen: int = 0
    sent: int = 0
    warned: int = 0
    failed: int = 0
    not_dicom: int = 0
    unreadable: int = 0


@dataclass(slots=True)
class SentFiles:
    """Files on their way: opened in blocks, and what became of each.

    Attributes:
        is_complete: whether all files have been seen.
    """

    terminal: Terminal
    interrupts: Interrupts
    report: ObjectReport
    advance: Advance
    stop_on_error: bool
    counts: SentCounts = field(default_factory=SentCounts)
    is_complete: bool = False

    def should_stop(self) -> bool:
        """Whether nothing more is to be sent."""
        counts = self.counts
        return self.interrupts.were_requested() or bool(
            self.stop_on_error and (counts.failed or counts.unreadable)
        )

    async def blocks(self, files: Iterator[FoundFile]) -> AsyncGenerator[list[DicomObject], None]:
        """What is DICOM among *files*, block by block."""
        while not self.should_stop():
            block = await trio.to_thread.run_sync(lambda: list(islice(files, FILES_PER_BLOCK)))
            if not block:
                break
            self.is_complete = len(block) < FILES_PER_BLOCK
            objects: list[DicomObject] = []
            with self.interrupts.stoppable():
                objects = await self._open(block)
            yield objects

    def exit_code(self) -> int:
        """That of all that was to be sent; says so when that was nothing."""
        counts = self.counts
        if not counts.sent and not counts.failed and not counts.unreadable:
            self.terminal.error("no file is DICOM; nothing was sent")
            return EXIT_FAILED
        return EXIT_FAILED if counts.failed or counts.unreadable else EXIT_OK

    def summary(self, seconds: float) -> str:
        """What became of them, on one line."""
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

    def take_down(
        self,
        item: DicomObject,
        *,
        is_stored: bool,
        is_warned: bool,
        status: int | None,
        reason: str,
        seconds: float,
    ) -> None:
        """What became of one object."""
        counts, terminal = self.counts, self.terminal
        counts.warned += is_warned
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
            seconds=round(seconds, 6),
        )
        done = counts.sent + counts.failed
        self.advance(done, counts.seen - counts.not_dicom if self.is_complete else None)

    async def _open(self, block: Sequence[FoundFile]) -> list[DicomObject]:
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
                self.terminal.error(str(error))
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
                self.terminal.error(f"{found.path}: {reason}")
                if self.stop_on_error:
                    break
        return objects

    def _name_not_dicom(self, error: NotDicomFileError) -> None:
        terminal = self.terminal
        if terminal.is_verbose or self.counts.not_dicom <= _NAMED:
            terminal.note(f"skipped {error}")
        elif self.counts.not_dicom == _NAMED + 1:
            terminal.note("skipped more that is not DICOM; -v names all")
