"""``isocenter jsontodcm``: DICOM JSON (PS3.18 Annex F) as DICOM files."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.cli.files.file_tool import run_file_tool
from isocenter.services.cli.files.model_input import add_model_input_options, convert_models
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.json_reader import MAX_JSON_LENGTH, read_json

DESCRIPTION: Final = """\
Write DICOM files from DICOM JSON (PS3.18 Annex F).  What an array holds becomes a file each, in a
folder, named by SOP Instance UID."""
EXAMPLES: Final = """\
examples:
  isocenter jsontodcm ct.json ct.dcm
  isocenter jsontodcm ct.json changed.dcm --template ct.dcm
  isocenter jsontodcm ct.json ct.dcm --bulk-data-dir bulk/ -t implicit
  isocenter jsontodcm - -o ct.dcm < ct.json

exit codes: 0 all is written, 1 arguments, 2 an input is not there, or makes no DICOM file"""


def add_arguments(parser: CommandParser) -> None:
    """The options of jsontodcm."""
    add_model_input_options(parser, what="JSON files")


def run(arguments: argparse.Namespace) -> int:
    """Write the files; the exit code."""

    def work(terminal: Terminal) -> int:
        return convert_models(arguments, terminal, read_json, longest=MAX_JSON_LENGTH)

    return run_file_tool(arguments, work)
