"""``isocenter xmltodcm``: XML in the Native DICOM Model (PS3.19 A.1) as DICOM files."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.cli.files.file_tool import run_file_tool
from isocenter.services.cli.files.model_input import add_model_input_options, convert_models
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.xml_reader import MAX_XML_LENGTH, read_xml

DESCRIPTION: Final = """\
Write DICOM files from XML in the Native DICOM Model (PS3.19 A.1), as dcmtoxml writes it."""
EXAMPLES: Final = """\
examples:
  isocenter xmltodcm ct.xml ct.dcm
  isocenter xmltodcm ct.xml changed.dcm --template ct.dcm
  isocenter xmltodcm ct.xml ct.dcm --bulk-data-dir bulk/ -t implicit

exit codes: 0 all is written, 1 arguments, 2 an input is not there, or makes no DICOM file"""


def add_arguments(parser: CommandParser) -> None:
    """The options of xmltodcm."""
    add_model_input_options(parser, what="XML files")


def run(arguments: argparse.Namespace) -> int:
    """Write the files; the exit code."""

    def work(terminal: Terminal) -> int:
        return convert_models(arguments, terminal, read_xml, longest=MAX_XML_LENGTH)

    return run_file_tool(arguments, work)
