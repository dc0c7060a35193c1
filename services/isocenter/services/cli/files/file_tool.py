"""Parts that file tools share: inputs, outputs, faults, exit codes.

* Files are named; folders are gone through with ``-r``; ``-`` is standard input or output.
* A result is written beside its place and renamed into it when it is whole, so nobody ever
  sees half of one, and what was there before stays when the tool fails.
* A fault costs its file, is one line on standard error, and the others go on.
* Exit codes: 0 all is done, 1 the arguments cannot be, 2 a file could not be worked on,
  130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import field
from pathlib import Path
from typing import IO, Final, NamedTuple

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.cli import EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import UsageError, add_output_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.errors import fault_text, text_of

#: The exit codes of the file tools, which are not those of the network commands.
EXIT_ARGUMENTS: Final = 1
EXIT_INVALID: Final = 2
#: Standard input as an input, standard output as an output.
STANDARD: Final = "-"
#: Bytes that are copied at once.
PIECE: Final = 1 << 20
#: Bytes for standard output that are held in memory until they are whole.
_HELD: Final = 8 << 20


class FileToolError(IsocenterError):
    """A file cannot be worked on; the message says why and what to do, not which file."""

    error_code = ErrorCode.FILE_NOT_READ


class OtherFileKindError(FileToolError):
    """A file is of another kind, as many are in a folder: a fault only where it was named."""

    error_code = ErrorCode.FILE_NOT_DICOM


# -- Options -----------------------------------------------------------------------------


def add_file_options(
    parser: CommandParser,
    *,
    what: str,
    output: str,
    several: bool = True,
    debug: tuple[str, ...] = ("-d", "--debug"),
    quiet: tuple[str, ...] = ("-q", "--quiet"),
    is_needed: bool = True,
    recursive: tuple[str, ...] = ("-r", "+r", "--recursive", "--recurse"),
) -> None:
    """Paths, ``-o``, ``-r``, ``-v``, ``-d``, ``-q`` and ``--no-progress``.

    Args:
        what: the paths are, for the help.
        output: what is written, for the help; empty: nothing is.
        several: whether more than one file can be given.
        is_needed: whether at least one has to be.
        debug, quiet: as `add_output_options` takes them.
        recursive: the flags of the option that goes through folders.
    """
    parser.exit_code_of_errors = EXIT_ARGUMENTS
    parser.is_intermixed = True
    parser.add_argument("paths", nargs="+" if is_needed else "*", metavar="PATH", help=what)
    group = parser.add_argument_group("files")
    if output:
        group.add_argument(
            "-o",
            "--output",
            metavar="PATH",
            help=f"where to write {output}: a file, a folder, or - for standard output",
        )
    if several:
        group.add_argument(
            *recursive, dest="recursive", action="store_true",
            help="go through folders, with all below them",
        )  # fmt: skip
        group.add_argument("--no-progress", action="store_true", help="no progress bar")
    add_output_options(parser, debug=debug, quiet=quiet)


def run_file_tool(arguments: argparse.Namespace, work: Callable[[Terminal], int]) -> int:
    """Run *work*; the exit code.  What it raises is one line on standard error."""
    terminal = Terminal.of(arguments)
    with terminal:
        try:
            return work(terminal)
        except UsageError as error:
            terminal.error(fault_text(error))
            return EXIT_ARGUMENTS
        except BrokenPipeError:
            raise  # whoever read our output has gone
        except (IsocenterError, OSError) as error:
            terminal.error(fault_text(error))
            return EXIT_INVALID
        except KeyboardInterrupt:
            terminal.note("stopped")
            return EXIT_INTERRUPTED


# -- Inputs ------------------------------------------------------------------------------


class InputFile(NamedTuple):
    """A file to work on.

    Attributes:
        path: as it is opened and named in messages; ``-`` is standard input.
        relative: what of it is below the folder that was given; its name where none was.
        fault: why it cannot be opened; empty where nothing is known.
        is_found: whether it is below a folder that was given; nobody named it.
    """

    path: str
    relative: str
    fault: str = ""
    is_found: bool = False


def input_files(paths: Sequence[str], *, recursive: bool) -> Iterator[InputFile]:
    """Files of *paths* and, with *recursive*, below them, in the order of their names.

    Symbolic links are followed where they are given, not where they are found.
    """
    for path in paths:
        if path == STANDARD:
            yield InputFile(path, path)
            continue
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            yield InputFile(path, path, text_of(error))
            continue
        if not stat.S_ISDIR(mode):
            name = os.path.basename(path)
            # A pipe is read as standard input is; a device has no end.
            is_readable = stat.S_ISREG(mode) or stat.S_ISFIFO(mode)
            yield InputFile(path, name, "" if is_readable else "not a file")
        elif not recursive:
            yield InputFile(path, path, "is a folder; -r goes through folders")
        else:
            yield from _files_below(path)


def _files_below(folder: str) -> Iterator[InputFile]:
    todo = deque([folder])
    while todo:
        at = todo.popleft()
        below: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(at) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        files.append(entry.path)
        except OSError as error:
            yield InputFile(at, os.path.relpath(at, folder), text_of(error))
        for path in sorted(files):
            yield InputFile(path, os.path.relpath(path, folder), is_found=True)
        todo.extendleft(sorted(below, reverse=True))


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """A file for reading at any place.  Standard input, and a pipe, go to a temporary file first:
    what has no beginning to go back to is no file.

    Raises:
        OSError: it cannot be opened.
    """
    if path == STANDARD:
        with tempfile.TemporaryFile() as whole:
            shutil.copyfileobj(sys.stdin.buffer, whole, PIECE)
            whole.seek(0)
            yield whole
        return
    with open(path, "rb") as file:
        if file.seekable():
            yield file
            return
        with tempfile.TemporaryFile() as whole:
            shutil.copyfileobj(file, whole, PIECE)
            whole.seek(0)
            yield whole


def for_each(
    terminal: Terminal,
    files: Iterator[InputFile],
    work: Callable[[InputFile], None],
    *,
    title: str,
    progress: bool = True,
) -> int:
    """Do *work* on each file; the exit code.

    What is wrong with a file is one line, and its exit code 2; the others go on.  Files of another
    kind that are found in a folder are passed over, unless there is nothing else.  The bar of
    progress is there where standard error is a terminal.
    """
    done = failed = passed_over = 0
    with terminal.progress(title, wanted=progress) as advance:
        for file in files:
            done += 1
            try:
                if file.fault:
                    raise FileToolError(file.fault)
                work(file)
            except (BrokenPipeError, UsageError):
                raise
            except OtherFileKindError as error:
                if not file.is_found:
                    failed += 1
                    terminal.error(f"{file.path}: {error}")
                else:
                    passed_over += 1
                    terminal.detail(f"passed over {file.path}: {error}")
            except (IsocenterError, OSError) as error:
                failed += 1
                text = fault_text(error)
                named = text if text.startswith(f"{file.path}: ") else f"{file.path}: {text}"
                terminal.error(named)
            advance(done, None)
    if passed_over:
        terminal.note(f"{passed_over} of {done} files are of another kind: passed over")
    return EXIT_INVALID if failed or done == passed_over else EXIT_OK


# -- Outputs -----------------------------------------------------------------------------


@dataclass(slots=True)
class Plan:
    """Which files are read, and where the result of each goes.

    Attributes:
        paths: what is read.
        target: a file, a folder, or ``-``.
        is_folder: whether each input has a file of its own in *target*.
        suffix: of those.
        many: whether there is, or may be, more than one input.
    """

    paths: tuple[str, ...]
    target: str
    is_folder: bool
    suffix: str
    many: bool
    #: What was given out, where two paths may hold files of one name.
    _taken: set[str] = field(default_factory=set)

    def output_of(self, file: InputFile) -> str:
        """Where the result of *file* goes.

        Raises:
            FileToolError: another file's is there.
        """
        if not self.is_folder:
            return self.target
        relative = "stdin" if file.path == STANDARD else file.relative
        if len(self.paths) > 1:
            if relative in self._taken:
                raise FileToolError(
                    "another file of this name was given; write it to another folder"
                )
            self._taken.add(relative)
        return str(Path(self.target, relative + self.suffix))


def plan(arguments: argparse.Namespace, *, suffix: str, default: str = STANDARD) -> Plan:
    """What the paths and ``-o`` mean.

    Of two paths without ``-o`` the second is the output, as DCMTK's tools have it; but not where
    it is there and named like an input, so that nobody loses a file by naming two, nor a folder
    with ``-r``.  Several files, or a folder, go to a folder.

    Args:
        suffix: is put behind the names of files in a folder.
        default: where the result goes when nobody says so.

    Raises:
        UsageError: they contradict each other.
    """
    paths: list[str] = arguments.paths
    target: str | None = arguments.output
    is_recursive: bool = getattr(arguments, "recursive", False)
    if target is None and len(paths) == 2 and not (is_recursive and os.path.isdir(paths[1])):
        if os.path.isfile(paths[1]) and Path(paths[0]).suffix == Path(paths[1]).suffix:
            raise UsageError(f"is {paths[1]} the output or one more input? Say so with -o")
        paths, target = paths[:1], paths[1]
    folders = [path for path in paths if path != STANDARD and os.path.isdir(path)]
    if folders and not is_recursive:
        raise UsageError(f"{folders[0]} is a folder; -r goes through folders")
    if target is None:
        target = default
    many = len(paths) > 1 or bool(folders)
    is_folder = target != STANDARD and (many or os.path.isdir(target) or target.endswith("/"))
    if is_folder and os.path.exists(target) and not os.path.isdir(target):
        raise UsageError(f"{target} is a file; several results need a folder")
    return Plan(tuple(paths), target, is_folder, suffix, many)


@contextmanager
def output_file(path: str) -> Iterator[IO[bytes]]:
    """A file to write, in its place when the block has ended well, and not at all otherwise.

    Folders above it are made.  ``-`` is standard output, which gets nothing of what fails, either.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    if path == STANDARD:
        with tempfile.SpooledTemporaryFile(_HELD) as whole:
            yield whole
            whole.seek(0)
            shutil.copyfileobj(whole, sys.stdout.buffer, PIECE)
            sys.stdout.buffer.flush()
        return
    place = Path(path)
    if place.exists() and not place.is_file():
        # A pipe or a device, as /dev/null: nothing to rename into its place.
        with place.open("wb", buffering=0) as special:
            yield special
        return
    place = Path(os.path.realpath(place))  # a link goes on to lead where it did
    place.parent.mkdir(parents=True, exist_ok=True)
    staged = place.with_name(f".{place.name[:200]}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(
            staged, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666
        )
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    try:
        with os.fdopen(descriptor, "w+b") as file:
            if place.exists():
                with suppress(OSError):
                    shutil.copymode(place, staged)
            yield file
            file.flush()
            os.fsync(file.fileno())
        staged.replace(place)
    finally:
        with suppress(FileNotFoundError):
            staged.unlink()
