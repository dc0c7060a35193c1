"""Check of what an AI service answered with, against what it was sent."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import IO, Final

from isocenter.engine.dataset import DataSetError
from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.data_set_file import open_data_set
from isocenter.services.dicom.iod.items import Item, read_items
from isocenter.services.dicom.iod.validation import quick_check, validate_items
from isocenter.services.integration.ai.result_classes import RESULT_CLASSES

_SOP_CLASS, _SOP_INSTANCE, _REFERENCED = 0x00080016, 0x00080018, 0x00081155
_STUDY, _SERIES = 0x0020000D, 0x0020000E
_PATIENT_ID, _ISSUER = 0x00100020, 0x00100021
_MANUFACTURER_MODEL, _SOFTWARE = 0x00081090, 0x00181020
_SEGMENTS, _SEGMENT_ALGORITHM, _IDENTIFICATION = 0x00620002, 0x00620009, 0x00620007
_ALGORITHM_NAME, _ALGORITHM_VERSION = 0x00660036, 0x00660031
_CONCEPT, _CODE, _TEXT = 0x0040A043, 0x00080100, 0x0040A160
#: Algorithm Name and Algorithm Version, DCM (TID 1007, 4019).
_NAME_CODE, _VERSION_CODE = "111001", "111003"
_MOST_NAMED: Final = 3
_MOST_TEXT: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an answer has to be about.

    Attributes:
        patient_id, issuer: empty: the objects say none.
        instances: SOP Instance UIDs of what was sent.
        others: of what comes with it, which it may refer to as well.
        is_strict: what is not valid by its IOD is not taken.
    """

    study_instance_uid: str
    patient_id: str
    issuer: str
    instances: Collection[str]
    others: Collection[str] = ()
    is_strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedResult:
    """What an object says of itself, and what stands against it.

    Attributes:
        fault: why it is not taken at all; empty: it is.
        doubt: why it is withheld until somebody has looked; empty: it is not.
        remark: codes of what is not as its IOD has it; empty: nothing is.
    """

    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    series_instance_uid: str = ""
    algorithm: str = ""
    algorithm_version: str = ""
    fault: str = ""
    doubt: str = ""
    remark: str = ""


def identity_of(file: IO[bytes]) -> str:
    """The SOP Instance UID of a file; empty: it says none, or is none."""
    try:
        with open_data_set(file, tolerance=Tolerance.SALVAGE) as opened:
            return read_items(opened.data, opened.encoding).root.text(_SOP_INSTANCE)
    except (DataSetError, OSError):
        return ""


def check_result(file: IO[bytes], asked: Asked) -> CheckedResult:
    """What a Part 10 file is, and whether it is an answer.

    It never raises because of what is in the file; its time is bounded as that of validation.
    """
    try:
        with open_data_set(file, tolerance=Tolerance.SALVAGE) as opened:
            read = read_items(opened.data, opened.encoding, dict(opened.forgiven))
            root = read.root
            name, version = algorithm_of(root)
            errors = [one for one in validate_items(read).findings if one.severity == "error"]
    except (DataSetError, OSError) as error:
        return CheckedResult(fault=f"it is no DICOM file: {error}")
    sop_class = root.text(_SOP_CLASS)
    fault = ""
    if sop_class not in RESULT_CLASSES:
        fault = "it is none of report, segmentation, presentation state and key object selection"
    elif not read.is_whole:
        fault = "it cannot be read as a whole"
    named = ", ".join(f"{one.code} {one.path}".strip() for one in errors[:_MOST_NAMED])
    doubts = list(_doubts(root, asked))
    if read.repeated:
        # Whose it is would be what its next reader takes: the first of them, or the last.
        doubts.append("it has an attribute more than once")
    if not quick_check(root):
        doubts.append("attributes are missing that such an object always has")
    elif errors and asked.is_strict:
        doubts.append(f"it is not valid: {named}")
    return CheckedResult(
        sop_class_uid=sop_class,
        sop_instance_uid=root.text(_SOP_INSTANCE),
        series_instance_uid=root.text(_SERIES),
        algorithm=name,
        algorithm_version=version,
        fault=fault,
        doubt="; ".join(doubts),
        remark=f"not valid: {named}" if errors else "",
    )


def _doubts(root: Item, asked: Asked) -> Iterator[str]:
    if root.text(_STUDY) != asked.study_instance_uid:
        yield "it is of another study"
    issuer = root.text(_ISSUER)
    is_other = root.text(_PATIENT_ID) != asked.patient_id
    if is_other or (issuer and asked.issuer and issuer != asked.issuer):
        yield "it names another patient"
    referenced = references_of(root)
    # A report may speak of the segmentation only that came with it.
    allowed = {*asked.instances, *asked.others}
    if not referenced & allowed:
        yield "it refers to nothing that was sent"
    elif not referenced <= allowed:
        yield "it refers to objects that were not sent"


def references_of(root: Item) -> set[str]:
    """The SOP Instance UIDs that an object names, wherever."""
    found = {item.text(_REFERENCED) for item in root.walk()}
    return found - {"", root.text(_SOP_INSTANCE)}


def algorithm_of(root: Item) -> tuple[str, str]:
    """Name and version of what made an object, as it says: of its segments, its content, or its
    equipment."""
    for segment in root.items(_SEGMENTS):
        for item in segment.items(_IDENTIFICATION):
            if item.text(_ALGORITHM_NAME):
                return _short(item.text(_ALGORITHM_NAME)), _short(item.text(_ALGORITHM_VERSION))
        if segment.text(_SEGMENT_ALGORITHM):
            return _short(segment.text(_SEGMENT_ALGORITHM)), _short(root.text(_SOFTWARE))
    said = {_NAME_CODE: "", _VERSION_CODE: ""}
    for item in root.walk():
        for concept in item.items(_CONCEPT):
            code = concept.text(_CODE)
            if code in said and not said[code]:
                said[code] = item.text(_TEXT)
    if said[_NAME_CODE]:
        return _short(said[_NAME_CODE]), _short(said[_VERSION_CODE])
    return _short(root.text(_MANUFACTURER_MODEL)), _short(root.text(_SOFTWARE))


def _short(text: str) -> str:
    return text[:_MOST_TEXT]
