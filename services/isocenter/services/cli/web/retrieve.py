"""Action ``retrieve`` of ``isocenter dicomweb`` (PS3.18 10.4)."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Final

import trio

from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.query_options import add_web_query_options
from isocenter.services.cli.support.received_files import STRUCTURES, add_receiving_options
from isocenter.services.cli.support.terminal import Advance
from isocenter.services.cli.support.transfer_syntaxes import uid_of
from isocenter.services.cli.web.service import WebCommand, add_url
from isocenter.services.dicom.uid_registry import TRANSFER_SYNTAXES
from isocenter.services.errors import text_of
from isocenter.services.net.http.client_errors import BrokenAnswerError, HttpStatusError
from isocenter.services.service_classes.storage.object_folder import ReceivedCounts
from isocenter.services.web.client.client import AS_STORED
from isocenter.services.web.client.download import Downloaded
from isocenter.services.web.client.object_files import DownloadFolder
from isocenter.services.web.client.parts import AnswerPart
from isocenter.services.web.client.resources import WebResource

DESCRIPTION: Final = """\
Fetch objects into files (WADO-RS), byte for byte as the server has them.  What matches the keys is
searched for first, unless UIDs name it.  A file has its name only when it is whole.  An answer that
breaks off is not begun again: what has not come is asked for.  With /frames/1,2 at the end of the
address of an instance, frames are fetched, as they are stored; a BulkDataURI of its metadata
fetches that value."""

#: Failed objects that are named without ``-v``.
_NAMED: Final = 10
_SUFFIXES: Final = {
    "image/jpeg": ".jpg", "image/jp2": ".jp2", "image/jpx": ".jpx", "image/jls": ".jls",
    "image/jphc": ".jphc", "image/jxl": ".jxl", "image/png": ".png", "image/gif": ".gif",
    "image/dicom-rle": ".rle", "video/mp4": ".mp4", "video/mpeg": ".mpg",
    "application/pdf": ".pdf", "text/html": ".html", "text/plain": ".txt",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of retrieve."""
    add_url(parser, text="or a study, series or instance")
    add_web_query_options(parser)
    add_receiving_options(parser)
    group = parser.add_argument_group("what is fetched")
    group.add_argument(
        "--skip-existing",
        action="store_true",
        help="ask for nothing that has a file already: an earlier download goes on",
    )
    group.add_argument(
        "--transfer-syntax",
        type=_transfer_syntax,
        action="append",
        default=[],
        metavar="UID",
        help="one of which objects are to have, by UID or keyword; the server converts them "
        "(repeatable; default: as it has them)",
    )
    group.add_argument("-p", "--progress", action="store_true", default=True, help="default")
    group.add_argument(
        "--no-progress", dest="progress", action="store_false", help="no progress bar"
    )


def _transfer_syntax(text: str) -> str:
    return uid_of(text, TRANSFER_SYNTAXES, "transfer syntax")


async def work(command: WebCommand) -> int:
    """Retrieve; the exit code."""
    arguments = command.arguments
    is_good = True
    with command.terminal.progress("retrieving", wanted=arguments.progress) as advance:
        folder = _folder(command, advance)
        with command.interrupts.stoppable():
            resources = await command.resources()
            for resource in resources:
                if resource.frames:
                    await _frames(command, resource)
                elif resource.bulk:
                    await _value(command, resource)
                else:
                    is_good &= await _objects(command, resource, folder)
    counts = folder.counts
    if command.interrupts.were_requested():
        command.terminal.note(f"cancelled; {counts.written} files written")
        return EXIT_INTERRUPTED
    if not resources:
        command.tell_of_no_match()
        return EXIT_FAILED
    if counts.written or counts.kept or counts.failed:
        _tell(command, counts)
    return EXIT_OK if is_good and not counts.failed else EXIT_FAILED


def _folder(command: WebCommand, advance: Advance) -> DownloadFolder:
    arguments = command.arguments

    def received(so_far: ReceivedCounts) -> None:
        done = so_far.written + so_far.kept + so_far.failed
        advance(done, None)
        command.terminal.detail(f"{done} objects came")

    place = arguments.output_directory
    try:
        return DownloadFolder(
            place,
            arguments.output_format or STRUCTURES[arguments.structure],
            overwrite=arguments.overwrite,
            on_progress=received,
        )
    except OSError as error:
        raise UsageError(f"{place}: {text_of(error)}; choose another folder with -od") from error


async def _objects(command: WebCommand, resource: WebResource, folder: DownloadFolder) -> bool:
    arguments, terminal = command.arguments, command.terminal
    try:
        result = await command.client.download(
            resource,
            folder,
            transfer_syntaxes=arguments.transfer_syntax or (AS_STORED,),
            skip_existing=arguments.skip_existing,
        )
    except HttpStatusError as error:
        if error.status not in (404, 406, 410):
            raise
        terminal.error(f"{resource.path}: {error}")
        return False
    except BrokenAnswerError as error:
        terminal.error(f"{resource.path}: {error}; --skip-existing goes on from what has come")
        return False
    return _is_whole(command, resource, result)


def _is_whole(command: WebCommand, resource: WebResource, result: Downloaded) -> bool:
    terminal = command.terminal
    for warning in result.warnings:
        terminal.note(f"the server warns: {warning}")
    for uid in result.missing if terminal.is_verbose else result.missing[:_NAMED]:
        terminal.error(f"{uid}: the server lists it, and does not have it")
    if result.is_partial:
        terminal.error(f"{resource.path}: the server gave some of it only")
    return not result.missing and not result.is_partial


def _tell(command: WebCommand, counts: ReceivedCounts) -> None:
    text = f"{counts.written} files written"
    if counts.kept:
        text += f", {counts.kept} were there already (--overwrite replaces them)"
    if counts.failed:
        text += f", {counts.failed} failed"
    for uid, reason in counts.failures:
        command.terminal.error(f"{uid}: {reason}")
    command.terminal.note(text)


async def _frames(command: WebCommand, resource: WebResource) -> None:
    place: Path = command.arguments.output_directory
    async with command.client.frames(resource) as parts:
        numbers = iter(resource.frames)
        async for part in parts:
            number = next(numbers, 0)
            name = f"{resource.instance}.{number:05d}{suffix_of(part)}"
            await write_part(part, place / name, overwrite=command.arguments.overwrite)
            command.terminal.note(f"{place / name}")


async def _value(command: WebCommand, resource: WebResource) -> None:
    """What metadata name by BulkDataURI."""
    place: Path = command.arguments.output_directory
    name = re.sub(r"[^0-9A-Za-z]+", ".", resource.bulk.rpartition("/bulk")[2].partition("/")[2])
    async with command.client.bulk_data(command.client.base + resource.path) as parts:
        count = 0
        async for part in parts:
            count += 1
            more = "" if count == 1 else f"_{count}"
            path = place / f"{resource.instance}.{name}{more}{suffix_of(part)}"
            await write_part(part, path, overwrite=command.arguments.overwrite)
            command.terminal.note(str(path))


def suffix_of(part: AnswerPart) -> str:
    """How the name of a file with this part ends."""
    name = part.media_type.name if part.media_type is not None else ""
    return _SUFFIXES.get(name, ".bin")


async def write_part(part: AnswerPart, path: Path, *, overwrite: bool) -> None:
    """A part as a file, which has its name when it is whole.

    Raises:
        UsageError: there is a file of that name.
    """
    if not overwrite and await trio.Path(path).exists():
        raise UsageError(f"{path} is there already; --overwrite replaces it")
    staged = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        async with await trio.open_file(staged, "wb") as file:
            async for piece in part:
                await file.write(bytes(piece))
        await trio.to_thread.run_sync(staged.replace, path)
    finally:
        with trio.CancelScope(shield=True):
            await trio.Path(staged).unlink(missing_ok=True)
