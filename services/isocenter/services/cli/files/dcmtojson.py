"""``isocenter dcmtojson``: DICOM files as DICOM JSON (PS3.18 Annex F)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any, Final

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
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.data_set_file import DataSetFile
from isocenter.services.dicom.json_writer import JsonWriter
from isocenter.services.dicom.model_writer import ModelWriter

DESCRIPTION: Final = """\
Write DICOM files as JSON (PS3.18 Annex F).  One file goes to standard output, or where -o says;
several go to a folder, each a file, or as an array to standard output."""
EXAMPLES: Final = """\
examples:
  isocenter dcmtojson ct.dcm
  isocenter dcmtojson ct.dcm ct.json --bulk-data inline
  isocenter dcmtojson ct.dcm -t PatientName -t 0008,0060 -c
  isocenter dcmtojson -r /media/cdrom -o json/ --bulk-data-dir bulk/
  curl … | isocenter dcmtojson - | jq .

exit codes: 0 all is written, 1 arguments, 2 a file is not there or no DICOM"""


def add_arguments(parser: CommandParser) -> None:
    """The options of dcmtojson."""
    add_model_output_options(parser, output="JSON")
    group = parser.add_argument_group("format")
    form = group.add_mutually_exclusive_group()
    form.add_argument(
        "-p", "--pretty", "+fc", "--formatted-code", dest="is_pretty", action="store_true",
        default=True, help="a line for each attribute (default)",
    )  # fmt: skip
    form.add_argument(
        "-c", "--compact", "-fc", "--compact-code", dest="is_pretty", action="store_false",
        help="no line breaks and no blanks",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Write the files; the exit code."""
    is_pretty: bool = arguments.is_pretty

    def write_to(target: IO[bytes]) -> Callable[[DataSetFile, Mapping[str, Any]], ModelWriter]:
        def write(data_set: DataSetFile, options: Mapping[str, Any]) -> ModelWriter:
            writer = JsonWriter(
                lambda text: target.write(text.encode("utf-8", "backslashreplace")),
                is_pretty=is_pretty,
                **options,
            )
            meta = data_set.head.meta
            has_meta = meta is not None and not arguments.no_meta
            writer.data_set(
                data_set.data, data_set.encoding, meta.elements if meta and has_meta else None
            )
            return writer

        return write

    def work(terminal: Terminal) -> int:
        made = plan(arguments, suffix=".json")
        is_array = made.target == STANDARD and made.many
        count = 0

        def convert(file: InputFile) -> None:
            nonlocal count
            with output_file(made.output_of(file)) as target:
                if is_array:
                    target.write(b",\n" if count else b"[\n")
                write_models(arguments, terminal, file, write_to(target))
                if not is_array:
                    target.write(b"\n")
            count += 1

        files = input_files(made.paths, recursive=arguments.recursive)
        code = for_each(
            terminal, files, convert, title="converting", progress=not arguments.no_progress
        )
        if is_array:
            sys.stdout.buffer.write(b"\n]\n" if count else b"[]\n")
        return code

    return run_file_tool(arguments, work)
