"""Action ``search`` of ``isocenter dicomweb`` (PS3.18 10.6)."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Final

from isocenter.engine.dataset import DataSetError
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.index.attributes import BY_KEYWORD, Level
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.match_options import (
    MATCH_FORMATS,
    add_match_output,
)
from isocenter.services.cli.support.match_output import (
    Match,
    MatchWriter,
    output_to,
    writer_of,
)
from isocenter.services.cli.support.options import UsageError, whole_number
from isocenter.services.cli.support.query_options import (
    USUAL_KEYS,
    Request,
    add_web_query_options,
    requests_of,
)
from isocenter.services.cli.web.service import WebCommand, add_url
from isocenter.services.dicom.model_reader import ModelError
from isocenter.services.web.client.models import encoded
from isocenter.services.web.client.search import SearchResults

DESCRIPTION: Final = """\
Search for studies, series or instances (QIDO-RS).  Matches go to standard output as they come,
however many pages the server makes of them.  Without -k and -f the usual attributes of the level
are asked for beside those that the server gives by itself."""

_MOST: Final = 1_000_000_000
#: What is searched for below what an address names.
_BELOW: Final = {Level.STUDY: Level.SERIES, Level.SERIES: Level.IMAGE, Level.IMAGE: Level.IMAGE}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of search."""
    add_url(parser, text="or a study or series, to search in it")
    add_web_query_options(parser)
    group = parser.add_argument_group("matches")
    add_match_output(
        group,
        MATCH_FORMATS,
        text="how they are written; json is the DICOM JSON model, xml the Native DICOM Model",
    )
    group.add_argument(
        "--limit",
        "--max-results",
        type=whole_number(0, _MOST),
        metavar="N",
        help="so many matches at most (default: all)",
    )
    group.add_argument(
        "--offset", type=whole_number(0, _MOST), default=0, metavar="N", help="pass over so many"
    )
    group.add_argument(
        "--all-fields", action="store_true", help="all attributes that the server has for the level"
    )
    group.add_argument("--fuzzy", action="store_true", help="names that sound alike, too")


async def work(command: WebCommand) -> int:
    """Search; the exit code."""
    arguments = command.arguments
    (request,) = requests_of(arguments, (), retrieve=False)
    named = command.named
    if named is not None and arguments.level is None:
        request = replace(request, level=_BELOW[named.level])
    if request.level is None or request.level is Level.PATIENT:
        raise UsageError("DICOMweb has no level PATIENT; ask for studies")
    request = _completed(arguments, request)
    assert request.level is not None
    found = command.client.search(
        request.level,
        request.keys,
        within=named,
        limit=arguments.limit,
        offset=arguments.offset,
        all_fields=arguments.all_fields,
        fuzzy=arguments.fuzzy,
    )
    count = 0
    with output_to(arguments.output_file, arguments.output) as out:
        writer = writer_of(arguments.output, out, list(request.top_level))
        with command.interrupts.stoppable():
            count = await _write(command, found, writer)
        writer.finish()
    for warning in found.warnings:
        command.terminal.note(f"the server warns: {warning}")
    command.terminal.detail(f"{count} matches")
    if command.interrupts.were_requested():
        return EXIT_INTERRUPTED
    if not count:
        command.terminal.note("no match")
    return EXIT_OK if count else EXIT_FAILED


async def _write(command: WebCommand, found: SearchResults, writer: MatchWriter) -> int:
    count = 0
    async for model in found:
        count += 1
        try:
            writer.write(Match(encoded(model), EXPLICIT_VR_LITTLE_ENDIAN))
        except (ModelError, DataSetError) as error:
            command.terminal.error(f"match {count} cannot be read: {error}")
    return count


def _completed(arguments: argparse.Namespace, request: Request) -> Request:
    if arguments.key or arguments.query_file or request.level is None:
        return request
    named = set(request.top_level)
    usual = tuple(
        (keyword, "")
        for keyword in USUAL_KEYS[request.level]
        if BY_KEYWORD[keyword].tag not in named
    )
    return replace(request, keys=request.keys + usual)
