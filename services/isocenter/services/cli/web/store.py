"""Action ``store`` of ``isocenter dicomweb`` (PS3.18 10.5)."""

from __future__ import annotations

import argparse
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Final

import trio

from isocenter.services.cli import EXIT_INTERRUPTED
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import check_paths, uid
from isocenter.services.cli.support.sent_files import (
    FoundFile,
    ObjectReport,
    SentFiles,
    add_sending_options,
    files_below,
)
from isocenter.services.cli.web.service import WebCommand, add_url
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.net.http.client_errors import HttpClientError

DESCRIPTION: Final = """\
Store files, and all files below folders (STOW-RS).  Several objects go in one request; what becomes
of each is told.  What is not DICOM is named and counted; an object that the server does not take
does not keep the others."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of store."""
    assert isinstance(parser, CommandParser)
    parser.is_intermixed = True
    add_url(parser, text="or a study, which takes only what is of it")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files and folders")
    group = add_sending_options(parser)
    group.add_argument(
        "--study-uid", type=uid, metavar="UID", help="the study that all of them are to be of"
    )


async def work(command: WebCommand) -> int:
    """Store; the exit code."""
    arguments = command.arguments
    check_paths(arguments.paths)
    study = arguments.study_uid or (command.named.study if command.named is not None else "")
    with (
        ObjectReport(arguments.report_file) as report,
        command.terminal.progress("storing", wanted=arguments.progress) as advance,
    ):
        files = SentFiles(
            command.terminal,
            command.interrupts,
            report,
            advance,
            stop_on_error=arguments.stop_on_error,
        )
        started = trio.current_time()
        try:
            with command.interrupts.stoppable():
                found = files_below(arguments.paths, arguments.scan_pattern)
                await _store(command, files, found, study)
        except HttpClientError:
            if files.counts.sent:
                command.terminal.error("the rest was not stored")
            raise
        finally:
            if files.counts.seen:
                command.terminal.note(files.summary(trio.current_time() - started))
    return EXIT_INTERRUPTED if command.interrupts.were_requested() else files.exit_code()


async def _store(
    command: WebCommand, files: SentFiles, found: Iterator[FoundFile], study: str
) -> None:
    before = trio.current_time()
    async with (
        aclosing(_objects(files, found)) as objects,
        aclosing(
            command.client.store(objects, study=study, one_by_one=files.stop_on_error)
        ) as outcomes,
    ):
        async for outcome in outcomes:
            files.take_down(
                outcome.item,
                is_stored=outcome.is_stored,
                is_warned=outcome.is_stored and bool(outcome.status),
                status=outcome.status,
                reason=outcome.reason,
                seconds=trio.current_time() - before,
            )
            before = trio.current_time()
            if files.should_stop():
                return


async def _objects(
    files: SentFiles, found: Iterator[FoundFile]
) -> AsyncGenerator[DicomObject, None]:
    async with aclosing(files.blocks(found)) as blocks:
        async for block in blocks:
            for item in block:
                yield item
