"""Action ``render`` of ``isocenter dicomweb`` (PS3.18 10.4.1.1.3)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.options import UsageError, whole_number
from isocenter.services.cli.support.query_options import add_web_query_options
from isocenter.services.cli.web.retrieve import suffix_of, write_part
from isocenter.services.cli.web.service import WebCommand, add_url
from isocenter.services.web.client.resources import WebResource

DESCRIPTION: Final = """\
Fetch the picture that the server makes of a study, series, instance or frame (WADO-RS): of several
instances the server chooses one.  Documents and video come as they are."""

_FORMATS: Final = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "jp2": "image/jp2",
    "mp4": "video/mp4",
    "pdf": "application/pdf",
    "html": "text/html",
    "text": "text/plain",
}
_MOST_FRAME: Final = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of render."""
    add_url(parser, text="or a study, series, instance or frame")
    add_web_query_options(parser)
    group = parser.add_argument_group("picture")
    group.add_argument(
        "-O",
        "--output-file",
        metavar="F",
        help="where to; - is standard output (default: UID.jpg and the like, in this folder)",
    )
    group.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    group.add_argument(
        "--format", choices=tuple(_FORMATS), default="jpeg", help="default: %(default)s"
    )
    group.add_argument(
        "--frame", type=whole_number(1, _MOST_FRAME), metavar="N", help="of an instance"
    )
    group.add_argument("--thumbnail", action="store_true", help="a small picture")
    group.add_argument(
        "--window", metavar="CENTER,WIDTH[,FUNCTION]", help="FUNCTION: linear (default), sigmoid"
    )
    group.add_argument("--viewport", metavar="WIDTH,HEIGHT", help="the picture fits into it")
    group.add_argument(
        "--quality", type=whole_number(1, 100), metavar="N", help="of a JPEG, 1 to 100"
    )
    group.add_argument(
        "--annotation", metavar="WHAT", help="texts in the picture: patient, technique"
    )


async def work(command: WebCommand) -> int:
    """Fetch it; the exit code."""
    arguments = command.arguments
    count = 0
    with command.interrupts.stoppable():
        resources = await command.resources()
        if len(resources) > 1 and arguments.output_file is not None:
            raise UsageError(f"{len(resources)} match, and -O names one file; leave it out")
        for resource in resources:
            count += await _picture(command, _with_frame(resource, arguments.frame))
    if command.interrupts.were_requested():
        return EXIT_INTERRUPTED
    if not count:
        command.tell_of_no_match()
    return EXIT_OK if count else EXIT_FAILED


def _with_frame(resource: WebResource, frame: int | None) -> WebResource:
    if resource.bulk:
        raise UsageError("a picture is of an instance, not of one of its values")
    if frame is None:
        return resource
    if not resource.instance:
        raise UsageError("--frame is of an instance; name it with --sop-instance-uid")
    return WebResource(resource.study, resource.series, resource.instance, (frame,))


def _parameters(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    found = []
    window: str | None = arguments.window
    if window is not None:
        found.append(("window", window if window.count(",") > 1 else f"{window},linear"))
    for name in ("viewport", "quality", "annotation"):
        value = getattr(arguments, name)
        if value is not None:
            found.append((name, str(value)))
    return found


async def _picture(command: WebCommand, resource: WebResource) -> int:
    arguments = command.arguments
    async with command.client.rendered(
        resource,
        media_types=[_FORMATS[arguments.format]],
        thumbnail=arguments.thumbnail,
        parameters=_parameters(arguments),
    ) as parts:
        count = 0
        async for part in parts:
            count += 1
            if arguments.output_file == "-":
                async for piece in part:
                    sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
                continue
            uid = resource.instance or resource.series or resource.study
            numbers = "".join(f".{number}" for number in resource.frames)
            more = "" if count == 1 else f"_{count}"
            path = Path(arguments.output_file or f"{uid}{numbers}{suffix_of(part)}")
            path = path.with_name(f"{path.stem}{more}{path.suffix}")
            await write_part(part, path, overwrite=arguments.overwrite)
            command.terminal.note(str(path))
        return count
