"""``isocenter dcmvalidate``: objects held against their IODs (PS3.3)."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatchcase
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from isocenter.engine.dataset.walker import Tolerance
from isocenter.services.cli import EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.files.dicom_input import dicom_input
from isocenter.services.cli.files.file_tool import (
    EXIT_INVALID,
    InputFile,
    add_file_options,
    for_each,
    input_files,
    run_file_tool,
)
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import UsageError, add_archive_options, uid
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.iod.entities import EntityCheck
from isocenter.services.dicom.iod.findings import SEVERITIES, Finding, Result
from isocenter.services.dicom.iod.heads import HEAD_BYTES, read_head
from isocenter.services.dicom.iod.items import ReadItems, device_of, read_items
from isocenter.services.dicom.iod.reports import (
    SARIF_SCHEMA,
    result_model,
    sarif_results,
    sarif_tool,
    uri_of,
)
from isocenter.services.dicom.iod.table import iod_table
from isocenter.services.dicom.iod.validation import Options, validate_items
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.errors import StorageError
from isocenter.services.system.log_format import escape

if TYPE_CHECKING:
    from isocenter.services.archive.archive import Archive
    from isocenter.services.archive.index.query import Query
    from isocenter.services.settings.settings import Settings

#: Nothing is wrong with the files, and an object in them is not valid.
EXIT_NOT_VALID: Final = 3
DESCRIPTION: Final = """\
Hold DICOM objects against the standard: which modules, attributes and functional groups their SOP
class asks for (PS3.3), when, and with which values; VR, VM, lengths and spelling of each element
(PS3.5, PS3.6).  Values of attributes are never shown."""
EXAMPLES: Final = """\
examples:
  isocenter dcmvalidate ct.dcm
  isocenter dcmvalidate -v ct.dcm                   also notes, and what could not be judged
  isocenter dcmvalidate -r /media/cdrom --summary   by rule and by device
  isocenter dcmvalidate -r export -f json | jq '.[] | select(.is_valid | not) | .file'
  isocenter dcmvalidate -r export -f sarif > findings.sarif
  isocenter dcmvalidate --ignore '*-TYPE2-MISSING' --ignore '*-DEFINED-TERM' ct.dcm
  isocenter dcmvalidate --study 1.2.840.113619.2.55.3 --data-dir /srv/isocenter
  isocenter dcmvalidate --sources

exit codes: 0 all objects are valid, 1 arguments, 2 a file is not there or no DICOM, or the archive
  has nothing like that,
  3 an object is not valid"""

_SELECTIONS: Final = {
    "--study": "StudyInstanceUID",
    "--series": "SeriesInstanceUID",
    "--instance": "SOPInstanceUID",
}
#: Of an object that says nothing of its device.
_NO_DEVICE: Final = "a device that says nothing of itself"
#: Bytes of an object of the archive that are read whole where its head is not enough.
_MOST_READ: Final = 1 << 30


def add_arguments(parser: CommandParser) -> None:
    """The options of dcmvalidate."""
    add_file_options(
        parser, what="DICOM files, folders with -r, - for standard input", output="",
        quiet=("--quiet",), is_needed=False,
    )  # fmt: skip
    group = parser.add_argument_group("objects of an archive, in place of files")
    for option, keyword in _SELECTIONS.items():
        group.add_argument(
            option, dest=keyword, type=uid, action="append", default=[], metavar="UID",
            help=f"of this {option[2:]} (repeatable)",
        )  # fmt: skip
    # `query_of` of `cli.support.selection_options` reads them; that takes long to import.
    parser.set_defaults(key=[])
    add_archive_options(parser)
    group = parser.add_argument_group("what is judged")
    group.add_argument(
        "--strict", action="store_true", help="an object with warnings is not valid, either"
    )
    group.add_argument(
        "--ignore", action="append", default=[], metavar="CODE",
        help="leave out findings of this code; * stands for anything (repeatable)",
    )  # fmt: skip
    group.add_argument(
        "--no-type1", action="store_true", help="do not ask for attributes of type 1"
    )
    group.add_argument(
        "--no-type2", action="store_true", help="do not ask for attributes of type 2"
    )
    group.add_argument(
        "--no-conditional", action="store_true", help="do not ask for types 1C and 2C"
    )
    group.add_argument(
        "--no-values", action="store_true",
        help="do not judge VR, VM, lengths and spelling of elements",
    )  # fmt: skip
    group.add_argument(
        "--no-entities", action="store_true",
        help="do not compare what objects of one patient, study, series say of it",
    )  # fmt: skip
    group = parser.add_argument_group("what is shown")
    group.add_argument(
        "-f", "--format", choices=("text", "json", "sarif"), default="text",
        help="text, JSON, or SARIF 2.1.0 (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--level", choices=SEVERITIES, help="the mildest findings shown (default: warning)"
    )
    group.add_argument("-q", "--brief", action="store_true", help="only one line for each file")
    group.add_argument(
        "--summary", action="store_true",
        help="in place of files, how often each rule was broken, and by which devices",
    )  # fmt: skip
    group.add_argument(
        "--sources", action=_Sources, help="show what the table is made of, and leave"
    )


class _Sources(argparse.Action):
    """``--sources``: what the table is made of; an option that ends the command, as ``--help``."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None) -> None:  # noqa: A002 - argparse's
        super().__init__(option_strings, dest, nargs=0, default=False, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        table = iod_table()
        print(f"{len(table.sop_classes)} SOP classes")
        print("editions: " + "; ".join(table.editions))
        for name, count in table.counts.items():
            print(f"{name + ':':<48} {count:>7,}")
        parser.exit()


def run(arguments: argparse.Namespace) -> int:
    """Judge the files; the exit code."""

    is_of_archive = any(getattr(arguments, name) for name in _SELECTIONS.values())
    if is_of_archive and not arguments.paths:
        return _run_on_archive(arguments)

    def work(terminal: Terminal) -> int:
        if is_of_archive:
            raise UsageError("give files, or objects of an archive, not both")
        if not arguments.paths:
            raise UsageError("what shall be validated? Give files, or --study of an archive")
        report = _Report(arguments, terminal)
        files = input_files(arguments.paths, recursive=arguments.recursive)
        wants_bar = not arguments.no_progress and not sys.stdout.isatty()
        code = for_each(terminal, files, report.judge, title="validating", progress=wants_bar)
        report.finish()
        if code == EXIT_INVALID:
            return code
        return EXIT_NOT_VALID if report.not_valid else code

    return run_file_tool(arguments, work)


def _run_on_archive(arguments: argparse.Namespace) -> int:
    """Judge objects of an archive; the exit code."""
    from isocenter.services import composition
    from isocenter.services.cli.support.archive_settings import archive_settings
    from isocenter.services.cli.support.client_command import Interrupts, run_task
    from isocenter.services.cli.support.selection_options import query_of

    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        settings = archive_settings(arguments, must_exist=True)
        query = query_of(arguments, settings, "validated")
        report = _Report(arguments, terminal)
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            async with composition.open_archive(settings, lock=False, recover=False) as archive:
                code = await _judge_stored(archive, query, report, terminal, settings)
        report.finish()
        if code == EXIT_OK and report.not_valid:
            return EXIT_NOT_VALID
        return code

    return run_task(terminal, work)


async def _judge_stored(
    archive: Archive, query: Query, report: _Report, terminal: Terminal, settings: Settings
) -> int:
    code = EXIT_OK
    limits = settings.engine_limits()
    async with archive.index.instances(query) as blocks:
        async for block in blocks:
            for stored in block:
                name = stored.sop_instance_uid
                try:
                    async with await archive.open(stored) as reader:
                        size = reader.size - stored.data_set_offset
                        read = None
                        for most in (HEAD_BYTES, min(size, _MOST_READ)):
                            if read is None:
                                data = await reader.read(stored.data_set_offset, min(size, most))
                                read = read_head(
                                    data, size, stored.transfer_syntax_uid, limits, _MOST_READ
                                )
                except (KeyError, StorageError):
                    code = EXIT_INVALID
                    terminal.error(f"{name}: cannot be read; `isocenter db verify` says more")
                    continue
                if read is None:
                    code = EXIT_INVALID
                    terminal.error(f"{name}: too large to be validated")
                    continue
                report.tell(read, name)
    if not report.count:
        terminal.error("nothing in the archive matches")
        return EXIT_INVALID
    return code


class _Report:
    """What was found, as it is shown.

    Attributes:
        not_valid: how many objects are not.
    """

    def __init__(self, arguments: argparse.Namespace, terminal: Terminal) -> None:
        self._arguments = arguments
        self._terminal = terminal
        self._options = Options(
            type_1=not arguments.no_type1, type_2=not arguments.no_type2,
            conditional=not arguments.no_conditional, values=not arguments.no_values,
            is_strict=arguments.strict,
        )  # fmt: skip
        level = arguments.level or ("info" if arguments.verbose else "warning")
        self._shown = SEVERITIES[: SEVERITIES.index(level) + 1]
        self._entities = None if arguments.no_entities else EntityCheck()
        #: Of objects.
        self.count = 0
        self.not_valid = 0
        self._codes: set[str] = set()
        self._rules: Counter[str] = Counter()
        self._devices: Counter[tuple[str, str]] = Counter()

    def judge(self, file: InputFile) -> None:
        with dicom_input(file, self._terminal, Tolerance.SALVAGE) as data_set:
            read = read_items(data_set.data, data_set.encoding, dict(data_set.forgiven))
            self.tell(read, file.path)

    def tell(self, read: ReadItems, path: str) -> None:
        """Judge what was read, and show what was found."""
        result = validate_items(read, self._options)
        if self._entities is not None:
            result.findings += self._entities.judge(read.root, result.prefix)
        device = device_of(read.root) or _NO_DEVICE
        ignored = self._arguments.ignore
        result.findings = [
            finding
            for finding in result.findings
            if not any(fnmatchcase(finding.code, pattern) for pattern in ignored)
        ]
        self.not_valid += not result.is_valid
        self.count += 1
        shown = [finding for finding in result.findings if finding.severity in self._shown]
        if self._arguments.summary:
            for finding in shown:
                self._rules[finding.code] += 1
                self._devices[device, finding.code] += 1
        elif self._arguments.format == "json":
            result.findings = shown
            print("," if self.count > 1 else "[", end="")
            print(json.dumps(result_model(result, path), ensure_ascii=False, indent=1))
        elif self._arguments.format == "sarif":
            self._sarif(shown, path)
        else:
            self._text(result, shown, path)

    def _sarif(self, shown: Iterable[Finding], path: str) -> None:
        for one in sarif_results(shown, uri_of(path)):
            before = "," if self._codes else _SARIF_HEAD
            print(before + json.dumps(one, ensure_ascii=False))
            self._codes.add(one["ruleId"])

    def _text(self, result: Result, shown: list[Finding], path: str) -> None:
        name = name_of(result.sop_class_uid) if result.sop_class_uid else "no SOP class"
        print(f"{escape(path)}: {escape(name)}: {result.summary}")
        if self._arguments.brief:
            return
        for finding in shown:
            times = f" ({finding.count} times)" if finding.count > 1 else ""
            words = f"{finding.path} {finding.message}{times}".strip()
            behind = "; ".join(filter(None, (finding.source, finding.edition)))
            print(escape(f"  {finding.severity:<7} {finding.code}: {words}"))
            if behind and self._terminal.is_verbose:
                print(escape(f"          {behind}"))
        if result.left_out:
            print(f"  {result.left_out} more findings are not shown")
        if result.not_judged and self._terminal.is_verbose:
            print("  not judged, since the condition is not one that this program understands:")
            for place, why in sorted(result.not_judged.items()):
                print(escape(f"    {place} ({why})"))

    def finish(self) -> None:
        if self._arguments.summary:
            self._print_summary()
        elif self._arguments.format == "json":
            print("]" if self.count else "[]")
        elif self._arguments.format == "sarif":
            print("" if self._codes else _SARIF_HEAD, end="")
            print('],"tool":' + json.dumps(sarif_tool(version("isocenter"), self._codes)) + "}]}")

    def _print_summary(self) -> None:
        valid = self.count - self.not_valid
        if self._arguments.format == "json":
            devices = [
                {"device": device, "code": code, "objects": count}
                for (device, code), count in self._devices.most_common()
            ]
            model = {"objects": self.count, "valid": valid, "rules": dict(self._rules),
                     "devices": devices}  # fmt: skip
            print(json.dumps(model, ensure_ascii=False, indent=1))
            return
        print(f"{self.count} objects, {valid} valid, {self.not_valid} not valid")
        if self._rules:
            print("\nObjects by rule")
        for code, count in self._rules.most_common():
            print(f"  {count:>8}  {code}")
        if self._devices:
            print("\nObjects by device and rule")
        for (device, code), count in self._devices.most_common():
            print(escape(f"  {count:>8}  {device}: {code}"))


_SARIF_HEAD: Final = f'{{"$schema":"{SARIF_SCHEMA}","version":"2.1.0","runs":[{{"results":['
