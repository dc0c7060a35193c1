"""``isocenter imgtodcm``: pictures, documents, models and video as DICOM files."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Final

from isocenter.engine.dataset import NotDicomError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.cli.files.file_tool import (
    PIECE,
    STANDARD,
    FileToolError,
    InputFile,
    OtherFileKindError,
    Plan,
    add_file_options,
    for_each,
    input_files,
    opened,
    output_file,
    plan,
    run_file_tool,
)
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.attribute_path import KeySyntaxError, parse_key
from isocenter.services.dicom.creation.documents import document_kind
from isocenter.services.dicom.creation.errors import UnknownSourceError
from isocenter.services.dicom.creation.jpeg_pictures import (
    is_jpeg,
    is_jpeg_2000,
    keep_jpeg,
    keep_jpeg_2000,
)
from isocenter.services.dicom.creation.objects import (
    Identity,
    Target,
    write_document,
    write_picture,
    write_video,
)
from isocenter.services.dicom.creation.picture import Picture
from isocenter.services.dicom.creation.raster_pictures import (
    MAX_DECODED,
    read_raster,
    turned_upright,
)
from isocenter.services.dicom.creation.source_attributes import Taken, attributes_of
from isocenter.services.dicom.creation.video import is_video, read_video
from isocenter.services.dicom.data_set_file import open_data_set
from isocenter.services.dicom.model_edits import NoSuchValueError, put_in_model
from isocenter.services.errors import text_of

DESCRIPTION: Final = """\
Make DICOM files of pictures (JPEG, JPEG 2000, PNG, TIFF, BMP, GIF, WebP), documents (PDF, CDA),
models (STL, OBJ, MTL) and video (MP4 with H.264 or HEVC, MPEG-2).  JPEG and JPEG 2000 files keep
their bytes.  The content says what a file is, not its name."""
EXAMPLES: Final = """\
examples:
  isocenter imgtodcm photo.jpg photo.dcm --patient-name Doe^Jane --patient-id 4711
  isocenter imgtodcm scan.pdf report.dcm --study-from ct.dcm -k DocumentTitle="Discharge letter"
  isocenter imgtodcm wound.png wound.dcm --vl-photo --series-from first.dcm
  isocenter imgtodcm --multi-frame page1.png page2.png -o pages.dcm
  isocenter imgtodcm -r photos/ -o dicom/ --study-from ct.dcm
  isocenter imgtodcm endoscopy.mp4 endoscopy.dcm --vl-endoscopic

exit codes: 0 all is written, 1 arguments, 2 a file is not there, or cannot become an object"""

_HEAD: Final = 1 << 20
#: Option → attribute.
_ATTRIBUTES: Final = {
    "patient_name": "PatientName",
    "patient_id": "PatientID",
    "study_description": "StudyDescription",
    "series_description": "SeriesDescription",
    "modality": "Modality",
}


def add_arguments(parser: CommandParser) -> None:
    """The options of imgtodcm."""
    add_file_options(
        parser,
        what="files, folders with -r, - for standard input; then where to",
        output="the DICOM files",
    )
    _add_identity(parser.add_argument_group("whose, and of which study"))
    group = parser.add_argument_group("what is written")
    kinds = group.add_mutually_exclusive_group()
    for flags, kind, text in (
        (("-sc", "--sec-capture"), Target.SECONDARY_CAPTURE, "Secondary Capture (default)"),
        (("-nsc", "--new-sc"), Target.NEW_SECONDARY_CAPTURE, "Multi-frame Secondary Capture"),
        (("-vlp", "--vl-photo"), Target.VL_PHOTO, "VL Photographic; the default for video"),
        (("--vl-endoscopic",), Target.VL_ENDOSCOPIC, "VL Endoscopic"),
        (("--vl-microscopic",), Target.VL_MICROSCOPIC, "VL Microscopic"),
    ):
        kinds.add_argument(
            *flags, dest="kind", action="store_const", const=kind,
            default=Target.SECONDARY_CAPTURE, help=text,
        )  # fmt: skip
    group.add_argument(
        "--multi-frame", action="store_true", help="all pictures as frames of one object"
    )
    group.add_argument(
        "--upright", action="store_true",
        help="turn JPEG pictures as EXIF says; they are decoded for it",
    )  # fmt: skip
    group.add_argument(
        "--decode", action="store_true", help="store JPEG and JPEG 2000 pictures uncompressed"
    )
    syntaxes = group.add_mutually_exclusive_group()
    syntaxes.add_argument(
        "--explicit", "+te", dest="syntax", action="store_const", const=EXPLICIT_VR_LITTLE_ENDIAN,
        default=EXPLICIT_VR_LITTLE_ENDIAN, help="explicit VR little endian (default)",
    )  # fmt: skip
    syntaxes.add_argument(
        "--implicit", "+ti", dest="syntax", action="store_const", const=IMPLICIT_VR_LITTLE_ENDIAN,
        help="implicit VR little endian; what is compressed stays explicit",
    )  # fmt: skip
    group.add_argument("--overwrite", action="store_true", help="replace files that are there")


def _add_identity(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--patient-name", metavar="NAME", help="(default: ANONYMOUS)")
    group.add_argument("--patient-id", metavar="ID", help="(default: a new one)")
    group.add_argument("--study-description", metavar="TEXT", help="(default: Imported Image)")
    group.add_argument("--series-description", metavar="TEXT", help="(default: by its kind)")
    group.add_argument("--modality", metavar="CS", help="(default: by its kind: OT, DOC, XC …)")
    sources = group.add_mutually_exclusive_group()
    sources.add_argument(
        "-stf", "--study-from", metavar="FILE", help="patient and study of this DICOM file"
    )
    sources.add_argument(
        "-sef", "--series-from", metavar="FILE",
        help="patient, study and series of this DICOM file; Instance Numbers go on from its own",
    )  # fmt: skip
    sources.add_argument(
        "-df", "--dataset-from", metavar="FILE",
        help="all attributes of this DICOM file but those of its pixels, in a new series",
    )  # fmt: skip
    group.add_argument(
        "-ii", "--instance-inc", action="store_true", help="as --series-from does in any case"
    )
    group.add_argument(
        "-k", "--key", action="append", default=[], metavar="KEY=VALUE",
        help="gggg,eeee=VALUE, Keyword=VALUE or a path; wins over all others (repeatable)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Write the files; the exit code."""

    def work(terminal: Terminal) -> int:
        identity, first = _identity_of(arguments)
        if arguments.multi_frame and arguments.output is None and len(arguments.paths) > 1:
            arguments.output = arguments.paths.pop()
        made = plan(arguments, suffix=".dcm", default="")
        if not made.target:
            raise UsageError("where to? Name the DICOM file behind the input, or with -o")
        if arguments.multi_frame and os.path.isdir(made.target):
            raise UsageError("--multi-frame makes one file; name it with -o")
        creation = _Creation(arguments, terminal, made, identity, first)
        files = input_files(made.paths, recursive=arguments.recursive)
        work = creation.collect if arguments.multi_frame else creation.create
        code = for_each(
            terminal, files, work, title="converting", progress=not arguments.no_progress
        )
        if arguments.multi_frame and not code:
            creation.write_collected()
        return code

    return run_file_tool(arguments, work)


def _identity_of(arguments: argparse.Namespace) -> tuple[Identity, int]:
    """Whose the objects are, and the first Instance Number."""
    source: dict[str, Any] = {}
    number = 0
    for option, taken in (
        (arguments.study_from, Taken.STUDY),
        (arguments.series_from, Taken.SERIES),
        (arguments.dataset_from, Taken.ALL),
    ):
        if option is not None:
            source, number = _source(option, taken)
    if arguments.series_from is None:
        number = 0
    if arguments.dataset_from is not None:
        source.pop("0020000E", None)
    keys = [
        (name, value)
        for option, name in _ATTRIBUTES.items()
        if (value := getattr(arguments, option)) is not None
    ]
    try:
        keys += [parse_key(text) for text in arguments.key]
        for name, value in keys:
            put_in_model({}, name, value)
    except (NoSuchValueError, KeySyntaxError) as error:
        raise UsageError(f"-k: {error}") from error
    given = {"StudyDescription": "Imported Image"}
    return Identity(given=given, source=source, keys=tuple(keys)), number + 1


def _source(path: str, taken: Taken) -> tuple[dict[str, Any], int]:
    try:
        with opened(path) as file, open_data_set(file) as data_set:
            return attributes_of(data_set, taken)
    except NotDicomError:
        raise UsageError(f"{path}: not DICOM; its {taken.value} cannot be taken") from None
    except OSError as error:
        raise UsageError(f"{path}: {text_of(error)}") from error


@dataclass(slots=True)
class _Creation:
    arguments: argparse.Namespace
    terminal: Terminal
    made: Plan
    identity: Identity
    number: int
    #: Of one multi-frame object.
    collected: list[Picture] = field(default_factory=list)

    def create(self, file: InputFile) -> None:
        """Make an object of a file."""
        with opened(file.path) as source:
            source.seek(0, 2)
            size = source.tell()
            source.seek(0)
            head = source.read(_HEAD)
            if is_video(head):
                video = read_video(source, size)
                with output_file(self._place(file)) as target:
                    write_video(
                        video, source, self._described("Video"), target,
                        kind=self.arguments.kind, number=self.number,
                    )  # fmt: skip
            elif (document := document_kind(Path(file.path), head, size)) is not None:
                with ExitStack() as stack:
                    path = Path(file.path)
                    if file.path == STANDARD or not path.is_file():
                        path = stack.enter_context(_as_file(source))
                    target = stack.enter_context(output_file(self._place(file)))
                    title = "" if file.path == STANDARD else Path(file.path).stem[:64]
                    write_document(
                        document, path, self._described("Encapsulated Document"), target,
                        title=title, number=self.number,
                        transfer_syntax_uid=self.arguments.syntax,
                    )  # fmt: skip
            else:
                picture = self._picture(file, source, size)
                with output_file(self._place(file)) as target:
                    self._write(picture, target)
        self.number += 1

    def collect(self, file: InputFile) -> None:
        """Keep the frames of a file for one object."""
        with opened(file.path) as source:
            source.seek(0, 2)
            size = source.tell()
            picture = self._picture(file, source, size)
        if self.collected:
            first = self.collected[0]
            if (picture.image, picture.transfer_syntax_uid) != (
                first.image,
                first.transfer_syntax_uid,
            ):
                raise FileToolError(
                    "differs from the first picture in its size, colours or compression; frames "
                    "of one object are alike (--decode makes compression no matter)"
                )
        self.collected.append(picture)

    def write_collected(self) -> None:
        """Write the object of all frames."""
        first = self.collected[0]
        first.frames = [frame for picture in self.collected for frame in picture.frames]
        place = self.made.target
        self._check(place)
        with output_file(place) as target:
            self._write(first, target)

    def _write(self, picture: Picture, target: IO[bytes]) -> None:
        write_picture(
            picture,
            self._described("Secondary Capture"),
            target,
            kind=self.arguments.kind,
            number=self.number,
            transfer_syntax_uid=self.arguments.syntax,
        )

    def _described(self, series: str) -> Identity:
        self.identity.given = {**self.identity.given, "SeriesDescription": series}
        return self.identity

    def _place(self, file: InputFile) -> str:
        place = self.made.output_of(file)
        self._check(place)
        return place

    def _check(self, place: str) -> None:
        if not self.arguments.overwrite and place != STANDARD and os.path.isfile(place):
            raise FileToolError(f"{place} is there already; --overwrite replaces it")

    def _picture(self, file: InputFile, source: IO[bytes], size: int) -> Picture:
        if size > MAX_DECODED:
            raise FileToolError(f"is longer than {MAX_DECODED >> 30} GiB, as no picture is")
        source.seek(0)
        data = source.read()
        kept: Picture | None = None
        if is_jpeg(data):
            kept = keep_jpeg(data)
        elif is_jpeg_2000(data):
            kept = keep_jpeg_2000(data)
        orientation = 1 if kept is None else kept.orientation
        turns = self.arguments.upright and orientation != 1
        if kept is not None and not turns and not self.arguments.decode:
            if orientation != 1:
                self.terminal.note(
                    f"{file.path}: EXIF says that it is turned, which viewers of DICOM do not see; "
                    "--upright turns it"
                )
            return kept
        if kept is not None and is_jpeg_2000(data):
            raise FileToolError("is JPEG 2000; convert the DICOM file afterwards (dcmconv)")
        try:
            picture = read_raster(data)
        except UnknownSourceError:
            raise OtherFileKindError(
                "is neither a picture nor a document nor a model nor video that is known here"
            ) from None
        for note in picture.notes:
            self.terminal.note(f"{file.path}: {note}")
        if kept is None and is_jpeg(data):
            self.terminal.note(
                f"{file.path}: no transfer syntax has this kind of JPEG (progressive); it is "
                "stored decoded"
            )
        if kept is not None:
            picture.lossy_method = kept.lossy_method
        picture.orientation = orientation if turns else 1
        return turned_upright(picture)


@contextmanager
def _as_file(source: IO[bytes]) -> Iterator[Path]:
    """A copy of a stream, in a file with a name."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "document")
        source.seek(0)
        with path.open("xb") as file:
            shutil.copyfileobj(source, file, PIECE)
        yield path
