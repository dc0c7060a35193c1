"""``isocenter dcmextract``: frames, documents and waveforms out of DICOM files."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.cli.files.codec_tasks import CodecTasks, with_codecs
from isocenter.services.cli.files.extraction import Extraction, Form, FrameChoice
from isocenter.services.cli.files.file_tool import (
    STANDARD,
    add_file_options,
    for_each,
    input_files,
    plan,
    run_file_tool,
)
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.cli.support.terminal_picture import PictureProtocol
from isocenter.services.dicom.pixels.rendering.options import (
    WINDOW_PRESETS,
    RenderOptionError,
    RenderOptions,
    Viewport,
    Window,
)

DESCRIPTION: Final = """\
Take out of DICOM files what is in them: frames, as pictures or as their samples; documents (PDF,
CDA, STL …) and video as their bytes; waveforms as CSV."""
EXAMPLES: Final = f"""\
examples:
  isocenter dcmextract ct.dcm --png
  isocenter dcmextract ct.dcm ct.jpg --jpeg --window 40 400
  isocenter dcmextract cine.dcm frames/ --png --frame 7
  isocenter dcmextract -r study/ -o pictures/ --jpeg --size 512
  isocenter dcmextract report.dcm report.pdf
  isocenter dcmextract ecg.dcm - --frame 0 | head
  isocenter dcmextract us.dcm --codestream
  isocenter dcmextract ct.dcm --show

Frames of several are written to files NAME.FRAME.png; --frame counts from 0, DCMTK's +F from 1.
Raw samples are little endian, pixel by pixel, of as many bits as are allocated; single bits are
bytes.  Windows by name: {", ".join(WINDOW_PRESETS)}.

exit codes: 0 all is written, 1 arguments, 2 a file is not there, is no DICOM, or has nothing
to take out"""


def add_arguments(parser: CommandParser) -> None:
    """The options of dcmextract."""
    add_file_options(
        parser,
        what="DICOM files, folders with -r, - for standard input; then where to",
        output="what is taken out",
        quiet=("--quiet",),
    )
    _add_form(parser.add_argument_group("what is written of images"))
    _add_frames(parser.add_argument_group("which frames"))
    _add_rendering(parser.add_argument_group("how pictures look"))
    group = parser.add_argument_group("else")
    group.add_argument("--overwrite", action="store_true", help="replace files that are there")
    group.add_argument("--info", action="store_true", help="say what is in it; write nothing")
    group.add_argument(
        "--show", nargs="?", const="auto", metavar="HOW",
        choices=("auto", *(protocol.value for protocol in PictureProtocol)),
        help="show a small picture on the terminal: auto, kitty, iterm, or blocks of colour",
    )  # fmt: skip


def _add_form(group: argparse._ArgumentGroup) -> None:
    forms = group.add_mutually_exclusive_group()

    def form(*flags: str, value: Form, text: str) -> None:
        forms.add_argument(
            *flags, dest="form", action="store_const", const=value, default=Form.RAW, help=text
        )

    form("--raw", value=Form.RAW, text="samples, decoded (default)")
    form("--codestream", value=Form.CODESTREAM, text="frames as they are compressed")
    form("--png", "+on", "--write-png", value=Form.PNG, text="PNG")
    form("--jpeg", "+oj", "--write-jpeg", value=Form.JPEG, text="JPEG")
    form(
        "--ppm", "--pgm", "+op", "--write-raw-pnm", value=Form.PPM,
        text="PGM of grayscale images, PPM of colour images",
    )  # fmt: skip
    group.add_argument(
        "-q", "--quality", "+Jq", type=int, default=90, metavar="1-100",
        help="of JPEG (default: %(default)s)",
    )  # fmt: skip


def _add_frames(group: argparse._ArgumentGroup) -> None:
    frames = group.add_mutually_exclusive_group()
    frames.add_argument(
        "--frame", type=_frame, default=None, metavar="N",
        help="this one, from 0 on; or all; of waveforms, the multiplex group",
    )  # fmt: skip
    frames.add_argument(
        "+F", type=_frame_from_one, dest="frame", metavar="N", help="this one, from 1 on"
    )
    frames.add_argument(
        "--all-frames", "+Fa", dest="frame", action="store_const", const=None,
        help="all of them (default)",
    )  # fmt: skip


def _add_rendering(group: argparse._ArgumentGroup) -> None:
    windows = group.add_mutually_exclusive_group()
    windows.add_argument(
        "--window", "+Ww", "--set-window", nargs=2, metavar=("CENTER", "WIDTH"), help="this window"
    )
    windows.add_argument(
        "--window-name", metavar="NAME",
        help="a usual window by its name, or the one of the object with this explanation",
    )  # fmt: skip
    windows.add_argument(
        "+Wi", "--use-window", type=int, dest="window_number", metavar="N",
        help="the object's N-th window",
    )  # fmt: skip
    windows.add_argument(
        "+Wl", "--use-voi-lut", type=int, dest="voi_lut_number", metavar="N",
        help="the object's N-th VOI LUT",
    )  # fmt: skip
    windows.add_argument(
        "+Wm", "--min-max-window", "--auto-window", dest="is_automatic", action="store_true",
        help="from the smallest to the largest value",
    )  # fmt: skip
    group.add_argument(
        "--size", type=int, metavar="N", help="fit into N × N pixels, larger or smaller"
    )
    group.add_argument(
        "-O", "--no-overlays", dest="has_overlays", action="store_false", help="without overlays"
    )


def _frame(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 0 on nor all")
    return int(text)


def _frame_from_one(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text) - 1


def _options_of(arguments: argparse.Namespace) -> RenderOptions:
    try:
        preset = WINDOW_PRESETS.get(arguments.window_name or "")
        window = Window.parse(",".join(arguments.window)) if arguments.window else preset
        options = RenderOptions(
            media_type="image/jpeg" if arguments.form is Form.JPEG else "image/png",
            quality=arguments.quality,
            window=window,
            window_number=arguments.window_number,
            voi_lut_number=arguments.voi_lut_number,
            window_name="" if preset else arguments.window_name or "",
            is_automatic=arguments.is_automatic,
            viewport=None if arguments.size is None else Viewport(arguments.size, arguments.size),
            has_overlays=arguments.has_overlays,
        )
        options.check()
    except RenderOptionError as error:
        raise UsageError(str(error)) from error
    return options


def run(arguments: argparse.Namespace) -> int:
    """Take it out; the exit code."""

    def work(terminal: Terminal) -> int:
        options = _options_of(arguments)
        is_told = arguments.info or arguments.show is not None
        if is_told and arguments.output is not None:
            raise UsageError("--info and --show write no files; leave out -o")
        if is_told:
            arguments.output = STANDARD
        made = plan(arguments, suffix="", default="")
        if made.target == STANDARD and made.many and not is_told:
            raise UsageError("several files need a folder; name one with -o")

        def extract(tasks: CodecTasks) -> int:
            extraction = Extraction(
                tasks,
                terminal,
                made,
                FrameChoice(arguments.form, arguments.frame, options),
                overwrites=arguments.overwrite,
                show=arguments.show,
                is_info=arguments.info,
            )
            files = input_files(made.paths, recursive=arguments.recursive)
            return for_each(
                terminal, files, extraction.extract, title="extracting",
                progress=not arguments.no_progress,
            )  # fmt: skip

        return with_codecs(extract)

    return run_file_tool(arguments, work)
