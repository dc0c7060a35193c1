"""``isocenter dcmdir``: DICOMDIR files made, shown, verified and changed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final

from isocenter.services.cli.files import dcmdir_changes, dcmdir_output
from isocenter.services.cli.files.file_tool import EXIT_ARGUMENTS, run_file_tool
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.directory_output import file_set_id
from isocenter.services.cli.support.options import add_output_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.file_set.profiles import PROFILES

DESCRIPTION: Final = """\
DICOMDIR files (PS3.10): the directory of a CD, a DVD, a USB stick or any other folder of DICOM
files.  Files have to have names of at most 8 characters A-Z, 0-9 and _ in at most 8 levels;
create can copy or rename them."""
EXAMPLES: Final = """\
examples:
  isocenter dcmdir create /media/usb
  isocenter dcmdir create images/ --copy /tmp/cd --file-set-id CD_1
  isocenter dcmdir list /media/cdrom/DICOMDIR --tree
  isocenter dcmdir verify /media/cdrom/DICOMDIR
  isocenter dcmdir update /media/usb/DICOMDIR --add new/ --delete DICOM/PA000001/ST000002
  isocenter dcmdir add /media/usb/DICOMDIR more/ct.dcm
  isocenter dcmdir remove /media/usb/DICOMDIR 1.2.840.113619.2.55.3

exit codes: 0 all is done, or well; 1 arguments; 2 a file could not be read or taken in, or
verify found something"""


def add_arguments(parser: CommandParser) -> None:
    """The actions of dcmdir."""
    parser.exit_code_of_errors = EXIT_ARGUMENTS
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(
        name: str, text: str, run: Callable[[argparse.Namespace, Terminal], int], *aliases: str
    ) -> CommandParser:
        made = actions.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", aliases=list(aliases),
            prefix_chars="-+", allow_abbrev=False,
        )  # fmt: skip
        made.exit_code_of_errors = EXIT_ARGUMENTS
        made.set_defaults(prog=f"{parser.prog} {name}", work=run)
        # -d deletes references.
        add_output_options(made, debug=("--debug",) if name == "update" else ("-d", "--debug"))
        made.add_argument("--no-progress", action="store_true", help="no progress bar")
        return made

    _add_create(action("create", "make the DICOMDIR of a folder", dcmdir_changes.create))
    _add_list(action("list", "show what a DICOMDIR holds", dcmdir_output.show, "show"))
    _add_verify(
        action("verify", "compare a DICOMDIR with its files", dcmdir_output.verify_directory)
    )
    update = action("update", "add files and remove references", dcmdir_changes.update)
    update.add_argument("directory", metavar="DICOMDIR")
    update.add_argument(
        "-a", "--add", action="append", default=[], metavar="PATH",
        help="a file, or all files below a folder (repeatable); from elsewhere they are copied",
    )  # fmt: skip
    update.add_argument(
        "-d", "--delete", action="append", default=[], metavar="REF", help=f"{_REF} (repeatable)"
    )
    add = action("add", "add files", dcmdir_changes.update)
    add.add_argument("directory", metavar="DICOMDIR")
    add.add_argument("add", nargs="+", metavar="PATH", help="files and folders")
    add.set_defaults(delete=[], delete_files=False)
    remove = action("remove", "remove references", dcmdir_changes.update)
    remove.add_argument("directory", metavar="DICOMDIR")
    remove.add_argument("delete", nargs="+", metavar="REF", help=_REF)
    remove.set_defaults(add=[], is_strict=False)
    for changing in (update, remove):
        changing.add_argument("--delete-files", action="store_true", help="delete the files, too")
    for adding in (update, add):
        _add_strict(adding)


_REF: Final = (
    "a File ID, or the beginning of several (DICOM/PA000001), or the UID of a study, series or "
    "instance"
)


def _add_strict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-I", "--strict", dest="is_strict", action="store_true",
        help="refuse objects without a value that a directory needs (default: one is made up)",
    )  # fmt: skip
    parser.add_argument(
        "+I", "--invent", dest="is_strict", action="store_false", help="make it up (default)"
    )


def _add_create(parser: CommandParser) -> None:
    parser.is_intermixed = True
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="folders, and files (default: where -o is)"
    )
    parser.add_argument(
        "-o", "+D", "--output", "--output-file", metavar="PATH",
        help="the DICOMDIR, or its folder (default: in the folder that is given)",
    )  # fmt: skip
    parser.add_argument(
        "+F", "--file-set-id", "--fileset-id", type=file_set_id, default="", metavar="ID",
        help="File-set ID: at most 16 characters A-Z, 0-9, _ and space",
    )  # fmt: skip
    parser.add_argument(
        "+R", "--descriptor", metavar="FILE",
        help="a file of the file-set that describes it for people, such as README",
    )  # fmt: skip
    parser.add_argument(
        "+C", "--char-set", default="", metavar="TERM",
        help="its Specific Character Set, such as 'ISO_IR 100'",
    )  # fmt: skip
    recursion = parser.add_mutually_exclusive_group()
    recursion.add_argument(
        "+r", "-r", "--recursive", "--recurse", dest="recursive", action="store_true",
        default=True, help="with all folders below (default)",
    )  # fmt: skip
    recursion.add_argument(
        "--no-recursive", "--no-recurse", dest="recursive", action="store_false",
        help="only the files of the folder itself",
    )  # fmt: skip
    naming = parser.add_mutually_exclusive_group()
    naming.add_argument(
        "--copy", metavar="FOLDER",
        help="copy the files to FOLDER, under names that conform, and make its DICOMDIR",
    )  # fmt: skip
    naming.add_argument(
        "--rename", action="store_true", help="rename files whose names do not conform"
    )
    naming.add_argument(
        "+m", "--map-filenames", action="store_true",
        help="reference names in lower case in upper case, as CDs do",
    )  # fmt: skip
    _add_strict(parser)
    _add_profile(parser)


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DICOMDIR")
    parser.add_argument("-l", "--long", action="store_true", help="more of each record")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--tree", dest="form", action="store_const", const="tree", default="tree",
        help="patients, studies, series and files (default)",
    )  # fmt: skip
    form.add_argument(
        "--flat", dest="form", action="store_const", const="flat", help="a line for each file"
    )
    form.add_argument(
        "--json", dest="form", action="store_const", const="json", help="for programs"
    )


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DICOMDIR")
    parser.add_argument(
        "--check-files", action="store_true",
        help="only whether each file is there, and what it is",
    )  # fmt: skip
    parser.add_argument(
        "--check-consistency", action="store_true",
        help="only whether files are of the patient, study and series of their records",
    )  # fmt: skip
    _add_profile(parser)


def _add_profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile", choices=tuple(PROFILES), metavar="NAME",
        help=f"files have to have its transfer syntaxes (PS3.11): {', '.join(PROFILES)}",
    )  # fmt: skip
    for profile in PROFILES.values():
        parser.add_argument(
            profile.option, dest="profile", action="store_const", const=profile.name,
            help=argparse.SUPPRESS,
        )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""

    def work(terminal: Terminal) -> int:
        if getattr(arguments, "directory", "") and Path(arguments.directory).is_dir():
            arguments.directory = str(Path(arguments.directory, "DICOMDIR"))
        code: int = arguments.work(arguments, terminal)
        return code

    return run_file_tool(arguments, work)
