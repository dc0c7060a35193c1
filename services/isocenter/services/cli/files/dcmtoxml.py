"""``isocenter dcmtoxml``: DICOM files in the Native DICOM Model (PS3.19 A.1)."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from typing import Any, Final
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from isocenter.services.cli.files.file_tool import (
    STANDARD,
    InputFile,
    for_each,
    input_files,
    output_file,
    plan,
    run_file_tool,
)
from isocenter.services.cli.files.model_output import add_model_output_options, write_models
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.data_set_file import DataSetFile
from isocenter.services.dicom.model_writer import ModelWriter
from isocenter.services.dicom.xml_writer import XmlWriter

DESCRIPTION: Final = """\
Write DICOM files as XML, in the Native DICOM Model (PS3.19 A.1).  One file goes to standard
output, or where -o says; several go to a folder, each a file."""
EXAMPLES: Final = """\
examples:
  isocenter dcmtoxml ct.dcm
  isocenter dcmtoxml ct.dcm ct.xml --bulk-data inline
  isocenter dcmtoxml -r /media/cdrom -o xml/ --bulk-data-dir bulk/

exit codes: 0 all is written, 1 arguments, 2 a file is not there or no DICOM"""


def add_arguments(parser: CommandParser) -> None:
    """The options of dcmtoxml."""
    add_model_output_options(parser, output="XML")
    group = parser.add_argument_group("format")
    group.add_argument(
        "-nat", "--native-format", action="store_true", help="the Native DICOM Model (always so)"
    )
    form = group.add_mutually_exclusive_group()
    form.add_argument(
        "-p", "--pretty", dest="is_pretty", action="store_true", default=True,
        help="a line for each attribute and value (default)",
    )  # fmt: skip
    form.add_argument(
        "-c", "--compact", dest="is_pretty", action="store_false", help="no line breaks"
    )
    group.add_argument(
        "--charset",
        type=_charset,
        default="UTF-8",
        metavar="NAME",
        help="encoding of the XML; what it has not is written as a reference (default: UTF-8)",
    )


def _charset(text: str) -> str:
    """The name of an encoding that readers of XML know."""
    found: list[str] = []
    parser = expat.ParserCreate()
    parser.CharacterDataHandler = found.append
    sample = f'<?xml version="1.0" encoding={quoteattr(text)}?><a>\u00e9\u5c71</a>'
    try:
        with warnings.catch_warnings():
            # Python's own escapes are no encoding, and complain about what they are given.
            warnings.simplefilter("error")
            parser.Parse(sample.encode(text, "xmlcharrefreplace"), True)
    except (expat.ExpatError, LookupError, ValueError, TypeError, AttributeError, Warning):
        found.clear()
    if "".join(found) != "\u00e9\u5c71":
        raise argparse.ArgumentTypeError(f"{text!r} is no encoding that readers of XML know")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Write the files; the exit code."""
    charset: str = arguments.charset

    def work(terminal: Terminal) -> int:
        made = plan(arguments, suffix=".xml")
        if made.target == STANDARD and made.many:
            raise UsageError("several XML documents need a folder; name one with -o")

        def convert(file: InputFile) -> None:
            with output_file(made.output_of(file)) as target:

                def write(data_set: DataSetFile, options: Mapping[str, Any]) -> ModelWriter:
                    writer = XmlWriter(
                        lambda text: target.write(text.encode(charset, "xmlcharrefreplace")),
                        charset=charset,
                        is_pretty=arguments.is_pretty,
                        **options,
                    )
                    meta = data_set.head.meta
                    elements = None if meta is None or arguments.no_meta else meta.elements
                    writer.data_set(data_set.data, data_set.encoding, elements)
                    return writer

                write_models(arguments, terminal, file, write)

        files = input_files(made.paths, recursive=arguments.recursive)
        return for_each(
            terminal, files, convert, title="converting", progress=not arguments.no_progress
        )

    return run_file_tool(arguments, work)
