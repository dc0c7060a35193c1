"""Action ``metadata`` of ``isocenter dicomweb`` (PS3.18 10.4.1.1.2)."""

from __future__ import annotations

import argparse
import json
from typing import Final

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.match_output import Match, output_to, writer_of
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.query_options import add_web_query_options
from isocenter.services.cli.web.service import WebCommand, add_url
from isocenter.services.dicom.model_reader import ModelError
from isocenter.services.web.client.models import encoded
from isocenter.services.web.client.resources import WebResource

DESCRIPTION: Final = """\
Show all attributes of the instances of studies, series or instances (WADO-RS).  json is as the
server wrote it, with the addresses of long values (BulkDataURI); in the other forms those are
empty."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of metadata."""
    add_url(parser, text="or a study, series or instance")
    add_web_query_options(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        "-o",
        "--output",
        "--format",
        choices=("text", "json", "xml", "csv", "table"),
        default="text",
        help="how they are written (default: %(default)s)",
    )
    group.add_argument(
        "--output-file", metavar="F", default="-", help="where to (default: standard output)"
    )


async def work(command: WebCommand) -> int:
    """Show; the exit code."""
    arguments = command.arguments
    count = 0
    with command.interrupts.stoppable():
        resources = [_without_frames(one) for one in await command.resources()]
        if arguments.output == "json" and len(resources) > 1:
            raise UsageError("-o json is of one study, series or instance; name it by its UIDs")
        with output_to(arguments.output_file, arguments.output) as out:
            if arguments.output == "json" and resources:
                text = await command.client.metadata_text(resources[0])
                out.write(text.decode("utf-8", "replace").rstrip() + "\n")
                count = len(json.loads(text or b"[]", parse_constant=str))
            else:
                writer = writer_of(arguments.output, out, ())
                for resource in resources:
                    for model in await command.client.metadata(resource):
                        count += 1
                        try:
                            writer.write(Match(encoded(model), EXPLICIT_VR_LITTLE_ENDIAN))
                        except ModelError as error:
                            command.terminal.error(f"instance {count} cannot be read: {error}")
                writer.finish()
    if command.interrupts.were_requested():
        return EXIT_INTERRUPTED
    if not count:
        command.tell_of_no_match()
    return EXIT_OK if count else EXIT_FAILED


def _without_frames(resource: WebResource) -> WebResource:
    return WebResource(resource.study, resource.series, resource.instance)
