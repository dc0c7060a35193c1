"""Rejection note as a Key Object Selection: read, and written (PS3.3 A.35.4, C.17.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Final

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set
from isocenter.engine.dataset.writer import WritableElement
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.ports import InstanceRecord, StoredInstance
from isocenter.services.archive.rejection.reasons import (
    DCM,
    KEY_OBJECT_SELECTION,
    RejectionReason,
)
from isocenter.services.dicom.attribute_list import AttributeList, items_of, text_of
from isocenter.services.dicom.element_values import encode_text
from isocenter.services.dicom.uid_registry import name_of

_TITLE: Final = 0x0040A043
_CODE_VALUE, _CODING_SCHEME, _CODE_MEANING = 0x00080100, 0x00080102, 0x00080104
_EVIDENCE: Final = 0x0040A375
_STUDY_UID, _SERIES_UID = 0x0020000D, 0x0020000E
_SERIES_SEQUENCE: Final = 0x00081115
_SOP_SEQUENCE: Final = 0x00081199
_SOP_CLASS, _SOP_INSTANCE = 0x00081150, 0x00081155
_UTF_8: Final = ("ISO_IR 192",)
#: Of patient and study, as another object of the study says them, with their VRs.
_TAKEN_OVER: Final = (
    (0x00080020, "DA"), (0x00080030, "TM"), (0x00080050, "SH"), (0x00080090, "PN"),
    (0x00081030, "LO"), (0x00100010, "PN"), (0x00100020, "LO"), (0x00100021, "LO"),
    (0x00100030, "DA"), (0x00100040, "CS"), (0x00200010, "SH"),
)  # fmt: skip
#: Of these, those that are there also without a value (type 2).
_TYPE_2: Final = frozenset(
    (0x00080020, 0x00080030, 0x00080050, 0x00080090, 0x00100010, 0x00100020, 0x00100030, 0x00100040,
     0x00200010)
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedReference:
    """An object that a note rejects."""

    study_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionNote:
    """What a note says."""

    reason: RejectionReason
    references: tuple[RejectedReference, ...]


def read_note(attributes: AttributeList) -> RejectionNote | None:
    """The rejection note that a Key Object Selection is; None: it rejects nothing."""
    titles = attributes.items(_TITLE)
    if not titles:
        return None
    reason = RejectionReason.of_code(
        text_of(titles[0], _CODE_VALUE).strip(), text_of(titles[0], _CODING_SCHEME).strip()
    )
    if reason is None:
        return None
    return RejectionNote(reason=reason, references=tuple(dict.fromkeys(_references(attributes))))


def _references(attributes: AttributeList) -> Iterator[RejectedReference]:
    for study in attributes.items(_EVIDENCE):
        uid = text_of(study, _STUDY_UID)
        for series in items_of(study, _SERIES_SEQUENCE):
            for each in items_of(series, _SOP_SEQUENCE):
                instance = text_of(each, _SOP_INSTANCE)
                if instance:
                    yield RejectedReference(study_instance_uid=uid, sop_instance_uid=instance)


def write_note(
    reason: RejectionReason,
    instances: Sequence[StoredInstance],
    like: InstanceRecord,
    text: str,
    *,
    sop_instance_uid: str,
    series_instance_uid: str,
    now: datetime,
) -> bytes:
    """The data set, in Explicit VR Little Endian, of a note that rejects *instances*.

    Args:
        instances: of one study.
        like: one of them, for what is said of patient and study.
        text: why, in words (113012, DCM, "Key Object Description").
    """
    date, clock = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    by_series = sorted(instances, key=lambda each: each.series_instance_uid)
    evidence: list[WritableElement] = [
        (_STUDY_UID, "UI", like.study_instance_uid.encode()),
        (
            _SERIES_SEQUENCE,
            "SQ",
            [
                _in_order(
                    (_SERIES_UID, "UI", series.encode()),
                    (_SOP_SEQUENCE, "SQ", [_reference(each) for each in some]),
                )
                for series, some in groupby(by_series, lambda each: each.series_instance_uid)
            ],
        ),
    ]
    content = [_described(text), *map(_shown, instances)]
    elements: list[WritableElement] = [
        (0x00080005, "CS", b"ISO_IR 192"),
        (0x00080012, "DA", date.encode()),
        (0x00080013, "TM", clock.encode()),
        (0x00080016, "UI", KEY_OBJECT_SELECTION.encode()),
        (0x00080018, "UI", sop_instance_uid.encode()),
        (0x00080023, "DA", date.encode()),
        (0x00080033, "TM", clock.encode()),
        (0x00080060, "CS", b"KO"),
        (0x00080070, "LO", b"Isocenter"),
        (0x0008103E, "LO", reason.meaning.encode()),
        (0x00081111, "SQ", []),
        (_STUDY_UID, "UI", like.study_instance_uid.encode()),
        (_SERIES_UID, "UI", series_instance_uid.encode()),
        (0x00200011, "IS", b"1"),
        (0x00200013, "IS", b"1"),
        (0x0040A040, "CS", b"CONTAINER"),
        (_TITLE, "SQ", [_code(reason.code, reason.meaning)]),
        (0x0040A050, "CS", b"SEPARATE"),
        (_EVIDENCE, "SQ", [_in_order(*evidence)]),
        (0x0040A504, "SQ", [[(0x00080105, "CS", b"DCMR"), (0x0040DB00, "CS", b"2010")]]),
        (0x0040A730, "SQ", content),
        *_taken_over(like.attributes),
    ]
    return write_data_set(_in_order(*elements), EXPLICIT_LITTLE)


def _taken_over(attributes: Mapping[int, str]) -> Iterator[WritableElement]:
    for tag, vr in _TAKEN_OVER:
        value = attributes.get(tag, "")
        if value or tag in _TYPE_2:
            yield (tag, vr, encode_text(value, vr, _UTF_8))


def _described(text: str) -> list[WritableElement]:
    return _in_order(
        (0x0040A010, "CS", b"CONTAINS"),
        (0x0040A040, "CS", b"TEXT"),
        (_TITLE, "SQ", [_code("113012", "Key Object Description")]),
        (0x0040A160, "UT", encode_text(text, "UT", _UTF_8)),
    )


def _shown(instance: StoredInstance) -> list[WritableElement]:
    name = name_of(instance.sop_class_uid)
    kind = b"IMAGE" if "Image Storage" in name else b"COMPOSITE"
    if "Waveform Storage" in name:
        kind = b"WAVEFORM"
    return _in_order(
        (0x0040A010, "CS", b"CONTAINS"),
        (0x0040A040, "CS", kind),
        (_SOP_SEQUENCE, "SQ", [_reference(instance)]),
    )


def _reference(instance: StoredInstance) -> list[WritableElement]:
    return [
        (_SOP_CLASS, "UI", instance.sop_class_uid.encode()),
        (_SOP_INSTANCE, "UI", instance.sop_instance_uid.encode()),
    ]


def _code(value: str, meaning: str) -> list[WritableElement]:
    return [
        (_CODE_VALUE, "SH", value.encode()),
        (_CODING_SCHEME, "SH", DCM.encode()),
        (_CODE_MEANING, "LO", meaning.encode()),
    ]


def _in_order(*elements: WritableElement) -> list[WritableElement]:
    return sorted(elements, key=lambda element: element[0])
