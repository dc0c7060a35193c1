"""``isocenter printscu``: print images on a printer (PS3.4 H), and ask how it is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from isocenter.engine.dataset import DataSetError
from isocenter.engine.dimse.status import ServiceClass, describe_status
from isocenter.engine.errors import AssociationError
from isocenter.engine.uid import is_safe_uid
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.client_command import Client, run_client
from isocenter.services.cli.support.match_output import Match, prepare_stdout, shown, writer_of
from isocenter.services.cli.support.network_options import (
    add_network_options,
    run_with_called_ae_title,
)
from isocenter.services.cli.support.options import UsageError, whole_number
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.creation.errors import SourceError
from isocenter.services.dicom.file_recognition import DamagedFileError, NotDicomFileError
from isocenter.services.dicom.film.display_format import DisplayFormat, DisplayFormatError
from isocenter.services.dicom.film.film import FILM_SIZES, Magnification
from isocenter.services.dicom.film.pictures import for_printer, read_picture, rendered_picture
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.rendering.options import (
    PNG,
    RenderOptionError,
    RenderOptions,
    Window,
)
from isocenter.services.errors import NoPresentationContextError, OperationError, text_of
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.normalized.operations import AnswerError
from isocenter.services.service_classes.print import attributes as tags
from isocenter.services.service_classes.print import scu
from isocenter.services.service_classes.print.film_session import MAX_COPIES
from isocenter.services.service_classes.print.job import PRIORITIES
from isocenter.services.service_classes.print.scu import FilmPage, PrintImage, PrintOptions

DESCRIPTION: Final = """\
Print on a DICOM printer.  ACTION is one of

  print FILES               print images: DICOM files, rendered as they say themselves, and
                            pictures (PNG, JPEG, TIFF …), as many on a film as --format has room for
  status                    how the printer is (N-GET)
  configuration             what the printer can
  job UID                   how a print job is"""
EXAMPLES: Final = """\
examples:
  isocenter printscu PRINTER@localhost:10005 print ct*.dcm --format 'STANDARD\\3,4'
  isocenter printscu PRINTER@localhost:10005 print photo.png --color --film-size A4
  isocenter printscu PRINTER@localhost:10005 print ct.dcm --window 40,400 --copies 2 --wait
  isocenter printscu PRINTER@localhost:10005 status

exit codes: 0 the printer took it, 1 it did not, or a file cannot be printed, 2 arguments or no
association"""

_ACTIONS: Final = ("print", "status", "configuration", "job")
_JOB_SECONDS: Final = 1.0
_FINAL: Final = ("DONE", "FAILURE")


def add_arguments(parser: CommandParser) -> None:
    """The options of printscu."""
    add_network_options(parser, calling="PRINTSCU", timeout=60, what_follows="ACTION [FILES]")
    group = parser.add_argument_group("the job")
    group.add_argument(
        "--copies", type=whole_number(1, MAX_COPIES), default=1, metavar="N",
        help="of each film (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--priority", choices=PRIORITIES, default="MED",
        help="how urgent it is (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--medium", default="", metavar="TERM",
        help="BLUE FILM, CLEAR FILM, PAPER … (default: the printer's)",
    )  # fmt: skip
    group.add_argument(
        "--destination", default="", metavar="TERM",
        help="MAGAZINE, PROCESSOR, BIN_1 … (default: the printer's)",
    )  # fmt: skip
    group.add_argument("--label", default="", metavar="TEXT", help="of the film session")
    group.add_argument("--wait", action="store_true", help="until the print jobs are over")
    group = parser.add_argument_group("the films")
    group.add_argument(
        "--format", default="STANDARD\\1,1", metavar="F", type=_display_format,
        help="STANDARD\\C,R, ROW\\R1,R2 … or COL\\C1,C2 … (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--orientation", choices=("PORTRAIT", "LANDSCAPE"), default="PORTRAIT",
        help="(default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--film-size", default="8INX10IN", metavar="SIZE",
        help=f"{', '.join(FILM_SIZES)} (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--magnification", choices=tuple(each.value for each in Magnification), default=None,
        help="how images are brought to the size of their boxes (default: the printer's)",
    )  # fmt: skip
    group.add_argument("--border", default="", metavar="D", help="density between images: BLACK …")
    group.add_argument("--empty", default="", metavar="D", help="density of empty boxes")
    group.add_argument("--min-density", type=whole_number(0, 65_535), metavar="N", help="of white")
    group.add_argument("--max-density", type=whole_number(0, 65_535), metavar="N", help="of black")
    group.add_argument("--trim", action="store_true", help="a line around each image")
    group.add_argument(
        "--resolution", choices=("STANDARD", "HIGH"), default=None, help="(default: the printer's)"
    )
    group.add_argument(
        "--lut", choices=("IDENTITY", "LIN OD"), default=None, metavar="SHAPE",
        help="a presentation LUT: IDENTITY or LIN OD (default: none is named)",
    )  # fmt: skip
    group.add_argument(
        "--text", action="append", default=[], metavar="N=TEXT",
        help="an annotation at a position, where the printer has them (repeatable)",
    )  # fmt: skip
    group.add_argument(
        "--annotation-format", default="ANNOTATION", metavar="ID",
        help="what the printer calls its layout of annotations (default: %(default)s)",
    )  # fmt: skip
    group = parser.add_argument_group("the images")
    group.add_argument(
        "--color", "--colour", action="store_true", help="print in colour (default: gray)"
    )
    group.add_argument(
        "--polarity", choices=("NORMAL", "REVERSE"), default="NORMAL",
        help="(default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--frame", type=whole_number(1, 1 << 31), default=1, metavar="N",
        help="of DICOM files with several (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--window", metavar="C,W", type=_window, help="of DICOM files (default: their own)"
    )
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text",
        help="how status, configuration and job are printed (default: %(default)s)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""

    async def work(client: Client, rest: list[str]) -> int:
        action, named = _action(rest)
        texts = _texts(arguments.text)
        images: list[PrintImage] = []
        if action == "print":
            found = await _images(client, arguments, named)
            if found is None:
                return EXIT_FAILED
            images = found
        code = EXIT_FAILED
        contexts = scu.contexts(is_colour=arguments.color)
        async with client.associate(contexts, provider=scu.take_event) as association:
            with client.interrupts.stoppable():
                try:
                    code = await _do(client, arguments, association, action, named, images, texts)
                except AnswerError as error:
                    words = describe_status(error.status, ServiceClass.PRINT)
                    said = f": {shown(error.answer.text)}" if error.answer.text else ""
                    client.terminal.error(f"the printer answered {error.status:04X}H {words}{said}")
                except (AssociationError, NoPresentationContextError, OperationError) as error:
                    client.terminal.error(str(error))
        return EXIT_INTERRUPTED if client.interrupts.were_requested() else code

    return run_with_called_ae_title(arguments, lambda given: run_client(given, work), _ACTIONS)


def _action(rest: Sequence[str]) -> tuple[str, list[str]]:
    """What to do, and with which files or job."""
    if not rest or rest[0] not in _ACTIONS:
        raise UsageError(f"what? Give one of {', '.join(_ACTIONS)} behind the peer")
    action, *more = rest
    if action == "print" and not more:
        raise UsageError("print what? Give DICOM files or pictures")
    if action == "job" and (len(more) != 1 or not is_safe_uid(more[0])):
        raise UsageError("which job? Give its UID, as print printed it")
    if more and action in ("status", "configuration"):
        raise UsageError(f"{action} takes no {more[0]!r}")
    return action, more


async def _do(
    client: Client,
    arguments: argparse.Namespace,
    association: ClientAssociation,
    action: str,
    named: Sequence[str],
    images: Sequence[PrintImage],
    texts: dict[int, str],
) -> int:
    match action:
        case "status":
            _show(arguments, await scu.printer_status(association))
        case "configuration":
            _show(arguments, await scu.printer_configuration(association))
        case "job":
            _show(arguments, await scu.job_status(association, named[0]))
        case _:
            return await _print(client, arguments, association, images, texts)
    return EXIT_OK


async def _print(
    client: Client,
    arguments: argparse.Namespace,
    association: ClientAssociation,
    images: Sequence[PrintImage],
    texts: dict[int, str],
) -> int:
    room = len(DisplayFormat.parse(arguments.format).boxes)
    pages = [
        FilmPage(images=images[start : start + room], texts=texts)
        for start in range(0, len(images), room)
    ]
    printed = await scu.print_films(association, pages, _options(arguments, bool(texts)))
    for warning in printed.warnings:
        client.terminal.note(f"the printer warns: {shown(warning)}")
    client.terminal.detail(f"{printed.films} films with {len(images)} images")
    for job in printed.job_uids:
        print(shown(job))
    if not arguments.wait:
        return EXIT_OK
    if not printed.job_uids:
        client.terminal.note("the printer names no print jobs; nothing to wait for")
        return EXIT_OK
    code = EXIT_OK
    for job in printed.job_uids:
        state = ""
        while state not in _FINAL:
            state = (await scu.job_status(association, job)).text(tags.EXECUTION_STATUS)
            if state not in _FINAL:
                await trio.sleep(_JOB_SECONDS)
        if state != "DONE":
            client.terminal.error(f"print job {shown(job)}: {state}")
            code = EXIT_FAILED
    return code


def _options(arguments: argparse.Namespace, has_texts: bool) -> PrintOptions:
    return PrintOptions(
        copies=arguments.copies,
        priority=arguments.priority,
        medium=arguments.medium,
        destination=arguments.destination,
        label=arguments.label,
        display_format=arguments.format,
        orientation=arguments.orientation,
        film_size=arguments.film_size,
        magnification=arguments.magnification or "",
        border_density=arguments.border,
        empty_density=arguments.empty,
        min_density=arguments.min_density,
        max_density=arguments.max_density,
        trim="YES" if arguments.trim else "",
        resolution=arguments.resolution or "",
        lut_shape=arguments.lut or "",
        annotation_format=arguments.annotation_format if has_texts else "",
    )


async def _images(
    client: Client, arguments: argparse.Namespace, paths: Sequence[str]
) -> list[PrintImage] | None:
    """The images of all files; None: one of them has none, which was told."""
    options = RenderOptions(media_type=PNG, window=arguments.window)
    found: list[PrintImage] = []
    async with CodecPool() as pool:
        for path in paths:
            try:
                picture = await read_picture(Path(path))
                if picture is None:
                    picture = await rendered_picture(
                        path, pool, frame=arguments.frame, options=options
                    )
            except OSError as error:
                client.terminal.error(f"{path}: {text_of(error)}")
                return None
            except (SourceError, PixelError, DataSetError, RenderOptionError) as error:
                client.terminal.error(f"{path}: {error}")
                return None
            except (NotDicomFileError, DamagedFileError) as error:
                client.terminal.error(f"{error}: neither an image nor a picture")
                return None
            described, pixels = for_printer(picture, is_colour=arguments.color)
            is_reverse = arguments.polarity == "REVERSE"
            found.append(PrintImage(image=described, pixels=pixels, is_reverse=is_reverse))
    return found


def _show(arguments: argparse.Namespace, attributes: AttributeList) -> None:
    writer = writer_of(arguments.output, prepare_stdout(arguments.output), ())
    writer.write(Match.of_attributes(attributes))
    writer.finish()


def _texts(given: Sequence[str]) -> dict[int, str]:
    found = {}
    for each in given:
        position, parted, text = each.partition("=")
        if not parted or not position.isascii() or not position.isdigit():
            raise UsageError(f"{each!r} is no annotation; give N=TEXT, as 1=Film")
        found[int(position)] = text
    return found


def _display_format(text: str) -> str:
    try:
        return DisplayFormat.parse(text).text
    except DisplayFormatError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _window(text: str) -> Window:
    try:
        return Window.parse(text)
    except RenderOptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
