"""``isocenter dcmmodify``: attributes of DICOM files inserted, modified and erased."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from isocenter.engine.dataset import DataSetError
from isocenter.engine.dataset.errors import DataSetLimitError
from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.errors import LocalProtocolError
from isocenter.services.cli.files.dicom_input import dicom_input
from isocenter.services.cli.files.file_tool import (
    FileToolError,
    InputFile,
    OtherFileKindError,
    Plan,
    add_file_options,
    for_each,
    input_files,
    output_file,
    run_file_tool,
)
from isocenter.services.cli.files.in_place import back_up, in_place_plan, without_backups
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.data_set_edits import (
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Edit,
    EditError,
    Editor,
    Kind,
    parse_edit,
)
from isocenter.services.dicom.data_set_file import DataSetFile, is_directory
from isocenter.services.dicom.data_set_tree import DataSetTree, write_tree
from isocenter.services.dicom.meta_edits import following_head
from isocenter.services.dicom.scope import SPECIFIC_CHARACTER_SET
from isocenter.services.dicom.tag_pattern import TagPattern

DESCRIPTION: Final = """\
Insert, modify and erase attributes of DICOM files.  All other bytes stay as they are; pixel data is
not loaded.  Files are changed in place, and what they were is kept beside them as FILE.bak, unless
-nb or -o says otherwise."""
EXAMPLES: Final = """\
examples:
  isocenter dcmmodify -m PatientID=4711 -i "0008,0080=General Hospital" ct.dcm
  isocenter dcmmodify -i "RequestAttributesSequence[0].ScheduledProcedureStepID=RP1" ct.dcm
  isocenter dcmmodify -m "(0040,0275)[*].(0040,0007)=" -ea OtherPatientIDs -ep -nb ct.dcm
  isocenter dcmmodify -r study/ -gst -gse -gin -o copy/
  isocenter dcmmodify --script changes.txt --dry-run *.dcm

A path names items by [0], [1] or all by [*].  Edits are done in the order in which they are given.
A script has one a line: i, m, ma, e or ea, a space, and what the option of that name takes; #
begins a comment.  A private attribute that no dictionary knows takes its VR: -i "0011,1001:LO=x".

exit codes: 0 all is done, 1 arguments, 2 a file is not there, is no DICOM or has not what shall be
modified (it is left as it was then)"""

_SIGNATURES: Final = 0xFFFAFFFA
_SCRIPT: Final = {
    "i": Kind.INSERT, "m": Kind.MODIFY, "ma": Kind.MODIFY_ALL, "e": Kind.ERASE,
    "ea": Kind.ERASE_ALL,
}  # fmt: skip


class _AddEdit(argparse.Action):
    """Adds to the edits, in the order in which options stand."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        kind, pattern, is_file = self.const
        if pattern is not None or kind is Kind.ERASE_PRIVATE:
            edits = [Edit(kind, pattern)]
        else:
            try:
                edits = [parse_edit(kind, str(values), is_file=is_file)]
            except ValueError as error:
                parser.error(f"argument {option_string}: {error}")
        namespace.edits = [*(namespace.edits or ()), *edits]


def add_arguments(parser: CommandParser) -> None:
    """The options of dcmmodify."""
    add_file_options(
        parser,
        what="DICOM files, folders with -r, - for standard input",
        output="the changed files",
    )
    group = parser.add_argument_group("edits")

    def add(*flags: str, kind: Kind, metavar: str, text: str, is_file: bool = False) -> None:
        group.add_argument(
            *flags, dest="edits", action=_AddEdit, const=(kind, None, is_file), metavar=metavar,
            help=text,
        )  # fmt: skip

    add("-i", "--insert", kind=Kind.INSERT, metavar="PATH=VALUE",
        text="insert, or overwrite; items on the way are made")  # fmt: skip
    add("-if", "--insert-from-file", kind=Kind.INSERT, metavar="PATH=FILE", is_file=True,
        text="the same with the bytes of a file, in little endian")  # fmt: skip
    add("-m", "--modify", kind=Kind.MODIFY, metavar="PATH=VALUE",
        text="modify what is there; an error where it is not")  # fmt: skip
    add("-mf", "--modify-from-file", kind=Kind.MODIFY, metavar="PATH=FILE", is_file=True,
        text="the same with the bytes of a file")  # fmt: skip
    add("-ma", "--modify-all", kind=Kind.MODIFY_ALL, metavar="TAG=VALUE",
        text="modify it wherever it is, in sequences as well")  # fmt: skip
    add("-e", "--erase", kind=Kind.ERASE, metavar="PATH", text="erase an attribute, or an item")
    add("-ea", "--erase-all", kind=Kind.ERASE_ALL, metavar="TAG",
        text="erase it wherever it is, in sequences as well")  # fmt: skip
    for flags, kind, tag, text in (
        (("-ep", "--erase-private"), Kind.ERASE_PRIVATE, None, "erase all private attributes"),
        (("-gst", "--gen-stud-uid"), Kind.NEW_UID, STUDY_INSTANCE_UID,
         "a new Study Instance UID; files of one study stay in one"),
        (("-gse", "--gen-ser-uid"), Kind.NEW_UID, SERIES_INSTANCE_UID,
         "a new Series Instance UID; files of one series stay in one"),
        (("-gin", "--gen-inst-uid"), Kind.NEW_UID, SOP_INSTANCE_UID, "a new SOP Instance UID"),
    ):  # fmt: skip
        pattern = None if tag is None else TagPattern((), tag)
        group.add_argument(
            *flags, dest="edits", action=_AddEdit, nargs=0, const=(kind, pattern, False), help=text
        )
    group.add_argument(
        "--script", type=Path, metavar="FILE", help="more edits, one a line, done after these"
    )
    group.add_argument(
        "-imt", "--ignore-missing-tags", action="store_true",
        help="what is not there need not be modified or erased",
    )  # fmt: skip
    group.add_argument(
        "-ie", "--ignore-errors", action="store_true",
        help="do the other edits of a file where one cannot be done",
    )  # fmt: skip
    group.add_argument(
        "-nrc", "--no-reserv-check", action="store_true",
        help="insert private attributes also into blocks without a creator",
    )  # fmt: skip
    group.add_argument(
        "-nmu", "--no-meta-uid", action="store_true",
        help="do not let the File Meta Information follow the UIDs of the data set",
    )  # fmt: skip
    group = parser.add_argument_group("backup")
    group.add_argument(
        "--backup", dest="has_backup", action="store_true", default=True,
        help="keep what was there as FILE.bak (default)",
    )  # fmt: skip
    group.add_argument(
        "-nb", "--no-backup", dest="has_backup", action="store_false", help="keep nothing"
    )
    group.add_argument(
        "--dry-run", action="store_true", help="only say what would be done, on standard output"
    )


def run(arguments: argparse.Namespace) -> int:
    """Change the files; the exit code."""

    def work(terminal: Terminal) -> int:
        edits = [*(arguments.edits or ()), *_script(arguments.script)]
        if not edits:
            raise UsageError("what shall be changed? See --help for -i, -m, -e and others")
        modify = _Modify(arguments, terminal, edits, in_place_plan(arguments))
        files = without_backups(input_files(arguments.paths, recursive=arguments.recursive))
        return for_each(
            terminal, files, modify.change, title="modifying", progress=not arguments.no_progress
        )

    return run_file_tool(arguments, work)


def _script(path: Path | None) -> Iterator[Edit]:
    if path is None:
        return
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no text in UTF-8"
        raise UsageError(f"--script {path}: {why}") from None
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        kind = _SCRIPT.get(word)
        if kind is None:
            raise UsageError(
                f"{path}, line {number}: {word[:20]!r} is none of {', '.join(_SCRIPT)}"
            )
        try:
            yield parse_edit(kind, rest.strip())
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: {error}") from None


class _Modify:
    def __init__(
        self,
        arguments: argparse.Namespace,
        terminal: Terminal,
        edits: Sequence[Edit],
        made: Plan | None,
    ) -> None:
        self._arguments = arguments
        self._terminal = terminal
        self._edits = edits
        self._made = made
        self._editor = Editor(
            ignore_missing=arguments.ignore_missing_tags,
            check_creators=not arguments.no_reserv_check,
        )

    def change(self, file: InputFile) -> None:
        arguments = self._arguments
        with dicom_input(file, self._terminal, Tolerance.USUAL) as data_set:
            if is_directory(data_set):
                raise OtherFileKindError(
                    "is a DICOMDIR, whose records point to each other by byte; dcmdir updates it"
                )
            try:
                tree = DataSetTree(data_set.data, data_set.encoding)
            except DataSetLimitError as error:
                raise FileToolError(f"left as it is: {error}") from error
            except DataSetError as error:
                raise FileToolError(
                    f"damaged, and left as it is ({error}); dcmconv writes what can be read of it"
                ) from error
            is_changed = self._apply(file, tree)
            if arguments.dry_run:
                return
            if not is_changed and self._made is None:
                self._terminal.detail(f"{file.path}: nothing to change")
                return
            self._notes(file, tree)
            tree.mend_group_lengths()
            self._write(file, data_set, tree)

    def _apply(self, file: InputFile, tree: DataSetTree) -> bool:
        is_changed = False
        for edit in self._edits:
            try:
                count = self._editor.apply(tree, edit)
            except LocalProtocolError as error:
                raise FileToolError(f"{edit.kind.value}: {error}") from error
            except EditError as error:
                if not self._arguments.ignore_errors:
                    raise FileToolError(f"{edit.kind.value}: {error}") from error
                self._terminal.note(f"{file.path}: {edit.kind.value}: {error}")
                continue
            is_changed = is_changed or count > 0
            line = f"{file.path}: {edit.text}" + (f" ({count} times)" if count != 1 else "")
            if self._arguments.dry_run:
                print(line)
            else:
                self._terminal.detail(line)
        return is_changed

    def _notes(self, file: InputFile, tree: DataSetTree) -> None:
        if tree.root.all(_SIGNATURES):
            self._terminal.note(f"{file.path}: its digital signatures do not fit any more")
        if any(node.is_changed for node in tree.root.all(SPECIFIC_CHARACTER_SET)):
            self._terminal.note(
                f"{file.path}: its texts are read in another character set now; their bytes stayed"
            )

    def _write(self, file: InputFile, data_set: DataSetFile, tree: DataSetTree) -> None:
        place = file.path if self._made is None else self._made.output_of(file)
        head = data_set.head_bytes
        if not self._arguments.no_meta_uid:
            head = following_head(head, data_set.head, tree)
        with output_file(place) as target:
            target.write(head)
            write_tree(tree, target, deflated=data_set.encoding.deflated)
            target.flush()
            if self._made is None and self._arguments.has_backup:
                back_up(place)
