"""Parts that ``jsontodcm`` and ``xmltodcm`` share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from isocenter.engine.dataset import DataSetError, NotDicomError
from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    is_safe_uid,
)
from isocenter.services.cli.files.file_tool import (
    STANDARD,
    FileToolError,
    InputFile,
    Plan,
    add_file_options,
    for_each,
    input_files,
    opened,
    output_file,
    plan,
)
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.data_set_file import open_data_set
from isocenter.services.dicom.long_values import FileRange
from isocenter.services.dicom.model_file import Template, opened_template, write_model_file
from isocenter.services.dicom.model_reader import Model, ModelError, read_model

_SYNTAXES: Final = {
    "explicit": EXPLICIT_VR_LITTLE_ENDIAN,
    "implicit": IMPLICIT_VR_LITTLE_ENDIAN,
    "big-endian": EXPLICIT_VR_BIG_ENDIAN,
    "deflated": DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
}
_SOP_INSTANCE_UID: Final = "00080018"


def add_model_input_options(parser: CommandParser, *, what: str) -> None:
    """The options of a command that writes DICOM files from text."""
    add_file_options(parser, what=f"{what}, then the DICOM file", output="the DICOM file")
    group = parser.add_argument_group("what is written")
    group.add_argument(
        "-t",
        "--transfer-syntax",
        type=_transfer_syntax,
        metavar="SYNTAX",
        help="explicit, implicit, big-endian, deflated, or the UID of one (default: what the "
        "template or the input says, else explicit)",
    )
    for flag, name in (("+te", "explicit"), ("+tb", "big-endian"), ("+ti", "implicit")):
        group.add_argument(
            flag, dest="transfer_syntax", action="store_const", const=_SYNTAXES[name],
            help=f"-t {name}",
        )  # fmt: skip
    group.add_argument(
        "--template",
        type=Path,
        metavar="FILE",
        help="a DICOM file that has what the input has not: pixel data and other attributes",
    )
    group.add_argument(
        "--bulk-data-dir",
        type=Path,
        metavar="DIR",
        help="the folder with the files that BulkDataURI names; nothing outside of it is read",
    )


def _transfer_syntax(text: str) -> str:
    syntax = _SYNTAXES.get(text.lower(), text)
    if syntax not in _SYNTAXES.values():
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of {', '.join(_SYNTAXES)}, nor the UID of one"
        )
    return syntax


def convert_models(
    arguments: argparse.Namespace,
    terminal: Terminal,
    read: Callable[[bytes], Sequence[Model]],
    *,
    longest: int,
) -> int:
    """Write a DICOM file of each data set; the exit code.

    Args:
        read: the data sets of an input.
        longest: bytes of an input.
    """
    made = plan(arguments, suffix=".dcm", default="")
    if not made.target:
        raise UsageError("where to? Name the DICOM file behind the input, or with -o")
    with _template_of(arguments) as template:
        work = _Work(arguments, made, read, longest, template)
        files = input_files(made.paths, recursive=arguments.recursive)
        return for_each(
            terminal, files, work.convert, title="converting", progress=not arguments.no_progress
        )


@contextmanager
def _template_of(arguments: argparse.Namespace) -> Iterator[Template | None]:
    path: Path | None = arguments.template
    if path is None:
        yield None
        return
    try:
        with (
            opened(str(path)) as source,
            open_data_set(source) as data_set,
            opened_template(data_set) as template,
        ):
            yield template
    except NotDicomError:
        raise FileToolError(f"--template {path}: not DICOM") from None
    except DataSetError as error:
        raise FileToolError(f"--template {path}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Work:
    arguments: argparse.Namespace
    made: Plan
    read: Callable[[bytes], Sequence[Model]]
    longest: int
    template: Template | None

    def convert(self, file: InputFile) -> None:
        with opened(file.path) as source:
            text = source.read(self.longest + 1)
        models = self.read(text)
        if len(models) == 1:
            self._write(models[0], self.made.output_of(file))
            return
        if not models:
            raise FileToolError("holds no data set")
        if self.made.target == STANDARD or not Path(self.made.target).is_dir():
            raise FileToolError(
                f"holds {len(models)} data sets; name a folder that is there with -o"
            )
        for number, model in enumerate(models, 1):
            name = _name_of(model) or f"{number:05d}"
            try:
                self._write(model, str(Path(self.made.target, f"{name}.dcm")))
            except (ModelError, DataSetError, LocalProtocolError) as error:
                raise FileToolError(f"data set {number}: {error}") from error

    def _write(self, model: Model, place: str) -> None:
        folder: Path | None = self.arguments.bulk_data_dir
        read = read_model(model, fetch=_Folder(folder).fetch, keeps_uris=self.template is not None)
        with output_file(place) as target:
            write_model_file(
                read,
                target,
                transfer_syntax_uid=self.arguments.transfer_syntax or "",
                template=self.template,
            )


def _name_of(model: Model) -> str:
    attribute = model.get(_SOP_INSTANCE_UID)
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    uid = values[0] if isinstance(values, list) and values else ""
    return uid if isinstance(uid, str) and is_safe_uid(uid) else ""


@dataclass(frozen=True, slots=True)
class _Folder:
    """Bulk data in the files of a folder; nobody's input makes us read another one."""

    folder: Path | None

    def fetch(self, uri: str) -> FileRange:
        if self.folder is None:
            raise ModelError(
                "its value is elsewhere; give the folder with --bulk-data-dir, or the original "
                "with --template"
            )
        try:
            parts = urlsplit(uri)
            query = parse_qs(parts.query)
            offset, length = (int(query.get(key, ["-1"])[0]) for key in ("offset", "length"))
        except ValueError:
            raise ModelError("its BulkDataURI is no URI") from None
        path = self._found(unquote(parts.path))
        size = path.stat().st_size
        if offset < 0:
            return FileRange(path, 0, size)
        if length < 0 or offset + length > size:
            raise ModelError(f"{path} is shorter than its BulkDataURI says")
        return FileRange(path, offset, length)

    def _found(self, named: str) -> Path:
        assert self.folder is not None
        folder = self.folder.resolve()
        for candidate in (Path(named), folder / Path(named).name):
            try:
                path = candidate.resolve()
                if path.is_relative_to(folder) and path.is_file():
                    return path
            except (OSError, ValueError):
                continue
        raise ModelError(f"what its BulkDataURI names is not in {self.folder}")
