"""Query options of findscu, movescu and getscu: model, level, keys."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from isocenter.engine.dataset import DataSetError, NotDicomError, read_file_head
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.uid import (
    EXPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.cli.support.options import UsageError
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.attribute_path import KeySyntaxError, parse_attribute_path, parse_key
from isocenter.services.dicom.pydicom_datasets import read_identifier
from isocenter.services.errors import text_of
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.worklist.entry import MODALITY_WORKLIST_FIND

if TYPE_CHECKING:
    import pydicom

_QUERY_RETRIEVE_LEVEL: Final = 0x00080052
#: Nobody nests a query deeper; a data set that does is not one.
_MOST_NESTED: Final = 16

#: Options for the usual keys → keyword.
KEY_OPTIONS: Final = {
    "--patient-name": "PatientName",
    "--patient-id": "PatientID",
    "--patient-birth-date": "PatientBirthDate",
    "--patient-sex": "PatientSex",
    "--study-date": "StudyDate",
    "--study-time": "StudyTime",
    "--accession-number": "AccessionNumber",
    "--study-uid": "StudyInstanceUID",
    "--study-id": "StudyID",
    "--study-description": "StudyDescription",
    "--modality": "Modality",
    "--series-uid": "SeriesInstanceUID",
    "--sop-instance-uid": "SOPInstanceUID",
}

#: Model → SOP classes of FIND, MOVE and GET.
MODELS: Final[Mapping[str, tuple[str, str, str]]] = {
    "patient": (
        sop_classes.PATIENT_ROOT_FIND,
        sop_classes.PATIENT_ROOT_MOVE,
        sop_classes.PATIENT_ROOT_GET,
    ),
    "study": (sop_classes.STUDY_ROOT_FIND, sop_classes.STUDY_ROOT_MOVE, sop_classes.STUDY_ROOT_GET),
    "psonly": (
        sop_classes.PATIENT_STUDY_ONLY_FIND,
        sop_classes.PATIENT_STUDY_ONLY_MOVE,
        sop_classes.PATIENT_STUDY_ONLY_GET,
    ),
}
#: What is asked for when nobody names keys.
USUAL_KEYS: Final = {
    Level.PATIENT: ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    Level.STUDY: (
        "PatientID",
        "PatientName",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ModalitiesInStudy",
        "StudyDescription",
        "NumberOfStudyRelatedInstances",
        "StudyInstanceUID",
    ),
    Level.SERIES: (
        "SeriesNumber",
        "Modality",
        "SeriesDescription",
        "BodyPartExamined",
        "NumberOfSeriesRelatedInstances",
        "SeriesInstanceUID",
    ),
    Level.IMAGE: ("InstanceNumber", "SOPClassUID", "SOPInstanceUID"),
}
#: The model that has no levels and can only be queried (PS3.4 Annex K).
WORKLIST: Final = "worklist"
#: What of the usual keys is an attribute of the scheduled procedure step.
_IN_STEP: Final = {"Modality": "ScheduledProcedureStepSequence[0].Modality"}


def add_query_options(parser: argparse.ArgumentParser, *, has_worklist: bool = False) -> None:
    """``-P -S -O -L -k -f`` and the options for usual keys; *has_worklist*: also ``-W``."""
    group = parser.add_argument_group("query")
    models = [
        (("-P", "--patient-root", "--patient"), "patient", "Patient Root"),
        (("-S", "--study-root", "--study"), "study", "Study Root"),
        (("-O", "--psonly"), "psonly", "Patient/Study Only (retired)"),
    ]
    if has_worklist:
        models.append((("-W", "--worklist"), WORKLIST, "Modality Worklist"))
    for flags, model, text in models:
        group.add_argument(
            *flags,
            dest="model",
            action="store_const",
            const=model,
            help=f"{text} information model",
        )
    group.add_argument(
        "--model",
        choices=tuple(model for _, model, _ in models),
        help="the same; default: patient when the level is PATIENT or a PatientID is given, "
        "else study",
    )
    group.add_argument(
        "--charset",
        default="",
        metavar="TERMS",
        help="Specific Character Set of what is not ASCII (default: ISO_IR 192, UTF-8)",
    )
    _add_key_options(group, "PATIENT, STUDY, SERIES or IMAGE (default: that of the keys)")


def add_web_query_options(parser: argparse.ArgumentParser) -> None:
    """``-L -k -f`` and the options for usual keys, for DICOMweb, which has no models and one
    character set; `requests_of` reads them."""
    group = parser.add_argument_group("query")
    parser.set_defaults(model="study", charset="")
    _add_key_options(group, "STUDY, SERIES or IMAGE (default: that of the keys)")


def _add_key_options(group: argparse._ArgumentGroup, levels: str) -> None:
    group.add_argument(
        "-L",
        "--level",
        type=_level,
        metavar="LEVEL",
        help=levels,
    )
    group.add_argument(
        "-k",
        "--key",
        action="append",
        default=[],
        metavar="KEY[=VALUE]",
        help="a key: gggg,eeee=VALUE, (gggg,eeee)=VALUE, Keyword=VALUE, or a path "
        "Sequence[0].Keyword=VALUE; without a value the attribute is only asked for (repeatable)",
    )
    group.add_argument(
        "-f",
        "--query-file",
        action="append",
        default=[],
        type=Path,
        metavar="F",
        help="keys from a file, one on a line, or a DICOM file (repeatable)",
    )
    for option, keyword in KEY_OPTIONS.items():
        group.add_argument(
            option,
            dest=f"key_{keyword}",
            metavar="VALUE",
            help=f"-k {keyword}=VALUE",
        )


def _level(text: str) -> Level:
    try:
        return Level(text.upper())
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of PATIENT, STUDY, SERIES, IMAGE"
        ) from None


@dataclass(frozen=True, slots=True)
class Request:
    """One identifier, and the model that it is asked in.

    Attributes:
        level: None in the worklist, which has none.
        keys: name (keyword, tag or path) and value.
    """

    level: Level | None
    model: str
    keys: tuple[tuple[str, str], ...]
    character_set: tuple[str, ...] = ()

    def encode(self, transfer_syntax_uid: str) -> bytes:
        """The identifier."""
        return build_identifier(
            self.keys, self.level, transfer_syntax_uid, character_set=self.character_set
        )

    @property
    def find_sop_class_uid(self) -> str:
        """What it is queried with."""
        return MODALITY_WORKLIST_FIND if self.model == WORKLIST else MODELS[self.model][0]

    @property
    def top_level(self) -> dict[int, str]:
        """Tag → value of the keys outside of sequences."""
        return {tag: value for path, tag, value in _paths(self.keys) if not path}


def _paths(keys: Sequence[tuple[str, str]]) -> Iterator[tuple[bool, int, str]]:
    for name, value in keys:
        path, tag = parse_attribute_path(name)
        yield bool(path), path[0][0] if path else tag, value


def requests_of(
    arguments: argparse.Namespace, files: Sequence[str], *, retrieve: bool
) -> list[Request]:
    """What to ask for: one request, or one for each query file behind the peer.

    Args:
        files: positional query files, DCMTK's way.
        retrieve: the level has to follow from the keys, as there is no default.

    Raises:
        UsageError, KeySyntaxError: a key that is none, a file that cannot be read, no level.
    """
    common: list[tuple[str, str]] = []
    for path in arguments.query_file:
        common += read_query_file(path)
    given = [parse_key(text) for text in arguments.key]
    # Last, since ``--study-date D -k StudyDate`` asks for the date and matches it.
    names = _IN_STEP if arguments.model == WORKLIST else {}
    given += [
        (names.get(keyword, keyword), value)
        for keyword in KEY_OPTIONS.values()
        if (value := getattr(arguments, f"key_{keyword}")) is not None
    ]
    bases = [read_query_file(Path(file)) for file in files] or [[]]
    return [_request(arguments, [*common, *base, *given], retrieve) for base in bases]


def _request(arguments: argparse.Namespace, keys: list[tuple[str, str]], retrieve: bool) -> Request:
    if arguments.model == WORKLIST:
        if arguments.level is not None:
            raise UsageError("the worklist has no levels: do without -L")
        return _checked(Request(None, WORKLIST, tuple(keys), _character_set(arguments)))
    values = {tag: value for nested, tag, value in _paths(keys) if not nested}
    level: Level | None = arguments.level
    if level is None and values.get(_QUERY_RETRIEVE_LEVEL):
        text = values[_QUERY_RETRIEVE_LEVEL].strip()
        try:
            level = Level(text)
        except ValueError:
            raise UsageError(
                "Query/Retrieve Level (0008,0052) is none of PATIENT, STUDY, SERIES, IMAGE"
            ) from None
    if level is None:
        level = _implied_level(values, retrieve)
    keys = [
        (name, value)
        for name, value in keys
        if parse_attribute_path(name) != ((), _QUERY_RETRIEVE_LEVEL)
    ]
    patient_id = values.get(UNIQUE_KEY[Level.PATIENT], "")
    is_single = bool(patient_id) and not any(character in patient_id for character in "*?\\")
    model = arguments.model or ("patient" if level is Level.PATIENT or is_single else "study")
    return _checked(Request(level, model, tuple(keys), _character_set(arguments)))


def _character_set(arguments: argparse.Namespace) -> tuple[str, ...]:
    return tuple(arguments.charset.split("\\")) if arguments.charset else ()


def _checked(request: Request) -> Request:
    """*request*; a wrong value shows before anybody is called."""
    request.encode(EXPLICIT_VR_LITTLE_ENDIAN)
    return request


def _implied_level(values: Mapping[int, str], retrieve: bool) -> Level:
    """The level of the lowest unique key that has a value."""
    for level in (Level.IMAGE, Level.SERIES, Level.STUDY, Level.PATIENT):
        if values.get(UNIQUE_KEY[level]):
            return level if retrieve or level is not Level.PATIENT else Level.STUDY
    if retrieve:
        raise UsageError(
            "what shall be retrieved? Give --study-uid, --series-uid, --sop-instance-uid or "
            "--patient-id, or -L and -k"
        )
    return Level.STUDY


# -- Query files -------------------------------------------------------------------------


def read_query_file(path: Path) -> list[tuple[str, str]]:
    """Keys from a file: ``tag=value`` lines with ``#`` comments, or a DICOM file.

    Raises:
        UsageError: it cannot be read, or a line is no key.
    """
    bound = DEFAULT_LIMITS.identifier
    try:
        with path.open("rb") as file:
            content = file.read(bound + 1)
    except OSError as error:
        raise UsageError(f"query file {path}: {text_of(error)}") from error
    if len(content) > bound:
        raise UsageError(f"query file {path}: longer than {bound} bytes")
    dataset = _as_data_set(content, path)
    if dataset is not None:
        try:
            return list(_keys_of(dataset, "", 0))
        except (ValueError, TypeError, LookupError) as error:
            raise UsageError(
                f"query file {path}: an element cannot be read ({type(error).__name__})"
            ) from error
    keys = []
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"query file {path}: neither DICOM nor text in UTF-8") from None
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                keys.append(parse_key(line.strip()))
            except KeySyntaxError as error:
                raise UsageError(f"query file {path}, line {number}: {error}") from error
    return keys


def _as_data_set(content: bytes, path: Path) -> pydicom.Dataset | None:
    try:
        head = read_file_head(content)
        return read_identifier(content[head.data_set_offset :], head.transfer_syntax_uid)
    except NotDicomError:
        return None
    except DataSetError as error:
        raise UsageError(f"query file {path}: {error}") from error


def _keys_of(dataset: pydicom.Dataset, prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth > _MOST_NESTED:
        raise UsageError("a query file nests sequences too deep")
    for element in dataset:
        if not element.tag & 0xFFFF:
            continue  # group lengths are not keys
        name = f"{prefix}({element.tag.group:04x},{element.tag.element:04x})"
        if element.VR == "SQ":
            if not element.value:
                yield name, ""
            for number, item in enumerate(element.value):
                yield from _keys_of(item, f"{name}[{number}].", depth + 1)
        elif element.value is None or isinstance(element.value, bytes):
            yield name, ""
        elif element.VM > 1:
            yield name, "\\".join(str(value) for value in element.value)
        else:
            yield name, str(element.value)
