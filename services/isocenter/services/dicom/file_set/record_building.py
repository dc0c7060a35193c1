"""Directory records made from the data sets of files (PS3.3 F.5).

A directory needs values that objects may have without: Patient ID, Study Date, numbers.  What is
missing is taken from attributes that say nearly the same, or else made up, as every writer of
media does; `NewRecords.invented` says which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import ElementScanner, Encoding, encoding_of
from isocenter.engine.dataset.reader import Fragments
from isocenter.engine.dataset.scanner import ScannedItem, ScannedValue
from isocenter.engine.dataset.vr import SWAP_WIDTH
from isocenter.engine.dataset.writer import WritableElement
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import Limits
from isocenter.services.dicom.data_dictionary import (
    DICTIONARY_SEQUENCES,
    dictionary_vr,
    keyword_for_tag,
)
from isocenter.services.dicom.element_values import CHARACTER_SET_VRS
from isocenter.services.dicom.file_set.directory import PATIENT_ID, FileSetError
from isocenter.services.dicom.file_set.record_types import (
    KEY_TAGS,
    PATIENT,
    PRIVATE,
    RECORD_TYPES,
    SERIES,
    STUDY,
    RecordType,
    record_type_of,
)

_CHARACTER_SET: Final = 0x00080005
_INSTANCE_CREATION_DATE: Final = 0x00080012
SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
_STUDY_DATE: Final = 0x00080020
_SERIES_DATE: Final = 0x00080021
_ACQUISITION_DATE: Final = 0x00080022
_CONTENT_DATE: Final = 0x00080023
_PATIENT_NAME: Final = 0x00100010
_BIRTH_DATE: Final = 0x00100030
_ROWS: Final = 0x00280010
_RELATIONSHIP_TYPE: Final = 0x0040A010
_VERIFICATION_DATETIME: Final = 0x0040A030
_VERIFYING_OBSERVERS: Final = 0x0040A073
_CONTENT_SEQUENCE: Final = 0x0040A730
_PRIVATE_RECORD_UID: Final = 0x00041432

_DATES: Final = (
    _CONTENT_DATE, _ACQUISITION_DATE, _SERIES_DATE, _STUDY_DATE, _INSTANCE_CREATION_DATE,
)  # fmt: skip
_TIME_OF: Final = {
    _CONTENT_DATE: 0x00080033,
    _ACQUISITION_DATE: 0x00080032,
    _SERIES_DATE: 0x00080031,
    _STUDY_DATE: 0x00080030,
    _INSTANCE_CREATION_DATE: 0x00080013,
}
#: By VR, what stands for a value that nobody knows.
_UNKNOWN: Final = {
    "DA": b"19000101",
    "TM": b"000000",
    "DT": b"19000101000000",
    "IS": b"1",
    "CS": b"UNKNOWN",
    "US": b"\1\0",
    "UL": b"\1\0\0\0",
    "LO": b"UNKNOWN",
    "SH": b"UNKNOWN",
}
_UNKNOWN_BY_KEYWORD: Final = {
    "Modality": b"OT",
    "CompletionFlag": b"PARTIAL",
    "VerificationFlag": b"UNVERIFIED",
    "MIMETypeOfEncapsulatedDocument": b"application/octet-stream",
    "StudyID": b"1",
}
#: What has to be in an object in any case.
_NEEDED: Final = frozenset((0x0020000D, 0x0020000E))

#: Top-level elements of an object that its records are made of.
_WANTED: Final = (
    KEY_TAGS
    | frozenset(_DATES)
    | frozenset(_TIME_OF.values())
    | {_CHARACTER_SET, SOP_CLASS_UID, SOP_INSTANCE_UID, _VERIFYING_OBSERVERS, _ROWS}
)
_SEQUENCES: Final = _WANTED & DICTIONARY_SEQUENCES
#: Longest value of a key, and longest sequence (of a report, its whole content).
_LIMITS: Final = Limits(kept_value=16 << 10, identifier=16 << 20)


class RecordScan:
    """Takes out of a data set, as it passes, what its directory records are made of."""

    def __init__(self, transfer_syntax_uid: str) -> None:
        self.transfer_syntax_uid = transfer_syntax_uid
        self._encoding: Encoding = encoding_of(transfer_syntax_uid)
        self._scanner = ElementScanner(
            self._encoding, _WANTED, limits=_LIMITS, sequences=_SEQUENCES
        )

    def feed(self, piece: Buffer) -> None:
        """Look at the next piece.

        Raises:
            DataSetError: it cannot be read.
        """
        self._scanner.feed(piece)

    def finish(self) -> None:
        """Say that the data set has ended.

        Raises:
            DataSetError: it ended too soon.
        """
        self._scanner.finish()

    def element(self, tag: int) -> WritableElement | None:
        """An element of the object in explicit VR little endian; None: there is none."""
        value = self._scanner.values.get(tag)
        if value is None or isinstance(value, Fragments):
            return None
        vr = self._scanner.vrs.get(tag) or dictionary_vr(tag)
        if not isinstance(value, bytes):
            return tag, "SQ", [self.item(item) for item in value]
        return tag, "UN" if vr == "SQ" else vr, self._little(vr, value)

    def item(self, item: ScannedItem) -> list[WritableElement]:
        """An item of a sequence in explicit VR little endian."""
        made: list[WritableElement] = []
        for tag, value in sorted(item.items()):
            if isinstance(value, tuple) and not isinstance(value, Fragments):
                made.append((tag, "SQ", [self.item(inner) for inner in value]))
            elif not isinstance(value, Fragments) and tag & 0xFFFF:
                vr = dictionary_vr(tag)
                made.append((tag, "UN" if vr == "SQ" else vr, self._little(vr, value)))
        return made

    def _little(self, vr: str, value: bytes) -> bytes:
        width = SWAP_WIDTH.get(vr, 1)
        if not self._encoding.big_endian or width == 1 or len(value) % width:
            return value
        return b"".join(value[start : start + width][::-1] for start in range(0, len(value), width))

    def raw(self, tag: int) -> bytes:
        """A value without padding, its first one where there are several."""
        element = self.element(tag)
        value = element[2] if element is not None else b""
        return value.split(b"\\")[0].strip(b" \0") if isinstance(value, bytes) else b""

    def uid(self, tag: int) -> str:
        """A UID; empty where there is none."""
        return self.raw(tag).decode("ascii", "replace")

    def items(self, tag: int) -> Sequence[ScannedItem]:
        """Of a sequence."""
        value: ScannedValue = self._scanner.values.get(tag, b"")
        return value if isinstance(value, tuple) and not isinstance(value, Fragments) else ()


Keys = dict[int, WritableElement]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRecords:
    """What an object becomes in a directory.

    Attributes:
        levels: type and keys of each record from the root down, the one of the object last.
        invented: keywords of keys that the object has no value for.
    """

    levels: tuple[tuple[str, Keys], ...]
    invented: tuple[str, ...]


def build_records(scan: RecordScan, *, is_strict: bool = False) -> NewRecords:
    """The records of an object.

    Args:
        is_strict: refuse to make up what a directory needs and the object has not.

    Raises:
        FileSetError: it has no UIDs, or with *is_strict* something else not.
    """
    sop_class = scan.uid(SOP_CLASS_UID)
    own = record_type_of(sop_class, has_rows=bool(scan.raw(_ROWS)))
    if own.is_root:
        types: tuple[RecordType, ...] = (own,)
    else:
        types = (RECORD_TYPES[PATIENT], RECORD_TYPES[STUDY], RECORD_TYPES[SERIES], own)
    invented: list[str] = []
    levels = []
    for one in types:
        keys = {}
        for tag, kind in sorted(one.keys.items()):
            element = _key(scan, tag, kind, invented)
            if element is not None:
                keys[tag] = element
        if own.name == PRIVATE and one is own:
            keys[_PRIVATE_RECORD_UID] = (_PRIVATE_RECORD_UID, "UI", sop_class.encode("ascii"))
        if _needs_character_set(keys.values()):
            declared = scan.element(_CHARACTER_SET)
            if declared is not None:
                keys[_CHARACTER_SET] = declared
        levels.append((one.name, keys))
    if invented and is_strict:
        raise FileSetError(
            f"has no value for {', '.join(invented)}, which a directory needs; without --strict "
            "one is made up"
        )
    return NewRecords(levels=tuple(levels), invented=tuple(invented))


def _key(scan: RecordScan, tag: int, kind: int, invented: list[str]) -> WritableElement | None:
    if tag == _VERIFICATION_DATETIME:
        return _verification(scan)
    element = _concept_modifiers(scan) if tag == _CONTENT_SEQUENCE else scan.element(tag)
    if element is not None and _has_value(element):
        return element
    if kind == 3:
        return None
    vr = dictionary_vr(tag)
    if kind == 2:
        return element or (tag, vr, [] if vr == "SQ" else b"")
    if tag in _NEEDED:
        raise FileSetError(f"has no {keyword_for_tag(tag)}, without which no directory can name it")
    invented.append(keyword_for_tag(tag))
    if vr == "SQ":
        return tag, vr, []
    return tag, vr, _stand_in(scan, tag, vr)


def _stand_in(scan: RecordScan, tag: int, vr: str) -> bytes:
    keyword = keyword_for_tag(tag)
    if tag == PATIENT_ID:
        # The same for all objects that name one patient, in whatever order they come.
        named = scan.raw(_PATIENT_NAME) + b"\0" + scan.raw(_BIRTH_DATE)
        return b"UNKNOWN-" + hashlib.sha256(named).hexdigest()[:8].upper().encode()
    if vr in ("DA", "TM"):
        for date in _DATES:
            found = scan.raw(date if vr == "DA" else _TIME_OF[date])
            if found:
                return found
    return _UNKNOWN_BY_KEYWORD.get(keyword, _UNKNOWN.get(vr, b"UNKNOWN"))


def _has_value(element: WritableElement) -> bool:
    value = element[2]
    if isinstance(value, bytes):
        return bool(value.strip(b" \0")) or element[1] in SWAP_WIDTH
    return bool(value)


def _concept_modifiers(scan: RecordScan) -> WritableElement | None:
    """Of the content of a report, all and only what modifies its title (F.5.25, F.5.26)."""
    items: list[list[WritableElement]] = [
        scan.item(item)
        for item in scan.items(_CONTENT_SEQUENCE)
        if _text(item.get(_RELATIONSHIP_TYPE)) == b"HAS CONCEPT MOD"
    ]
    return _CONTENT_SEQUENCE, "SQ", items


def _verification(scan: RecordScan) -> WritableElement | None:
    times = [_text(item.get(_VERIFICATION_DATETIME)) for item in scan.items(_VERIFYING_OBSERVERS)]
    latest = max(filter(None, times), default=b"")
    return (_VERIFICATION_DATETIME, "DT", latest) if latest else None


def _text(value: ScannedValue | None) -> bytes:
    return value.strip(b" \0") if isinstance(value, bytes) else b""


def _needs_character_set(elements: Iterable[WritableElement]) -> bool:
    """Whether some text is not ASCII, or says so with an escape sequence."""
    for _, vr, value in elements:
        if isinstance(value, bytes):
            if vr in CHARACTER_SET_VRS and (not value.isascii() or b"\x1b" in value):
                return True
        elif isinstance(value, list) and any(
            _needs_character_set(item) for item in value if isinstance(item, list)
        ):
            return True
    return False
