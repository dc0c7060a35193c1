"""UID registry: SOP classes and transfer syntaxes by name (PS3.4 B.5, PS3.6 A).

pydicom's dictionary of UIDs is the source; what is younger than it is added here.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.dicom.pydicom_tables import UIDS

#: Proposed by us for services whose data sets are identifiers or attribute lists.
BASIC_SYNTAXES: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
#: Accepted from others for the same: these are small, and we read and write every encoding.
IDENTIFIER_SYNTAXES: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)

#: C-FIND, patient root (PS3.4 C.6).
PATIENT_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.1.1"
#: C-MOVE, patient root (PS3.4 C.6).
PATIENT_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.1.2"
#: C-GET, patient root (PS3.4 C.6).
PATIENT_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.1.3"
#: C-FIND, study root (PS3.4 C.6).
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
#: C-MOVE, study root (PS3.4 C.6).
STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
#: C-GET, study root (PS3.4 C.6).
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
PATIENT_STUDY_ONLY_FIND: Final = "1.2.840.10008.5.1.4.1.2.3.1"
PATIENT_STUDY_ONLY_MOVE: Final = "1.2.840.10008.5.1.4.1.2.3.2"
PATIENT_STUDY_ONLY_GET: Final = "1.2.840.10008.5.1.4.1.2.3.3"
#: C-MOVE of instances by their UIDs, or of frames of one (PS3.4 Y).
COMPOSITE_INSTANCE_MOVE: Final = "1.2.840.10008.5.1.4.1.2.4.2"
#: C-GET of the same.
COMPOSITE_INSTANCE_GET: Final = "1.2.840.10008.5.1.4.1.2.4.3"
#: C-GET of instances without their bulk data (PS3.4 Z).
COMPOSITE_INSTANCE_GET_WITHOUT_BULK_DATA: Final = "1.2.840.10008.5.1.4.1.2.5.3"
COMPOSITE_INSTANCE_CLASSES: Final = (
    COMPOSITE_INSTANCE_MOVE,
    COMPOSITE_INSTANCE_GET,
    COMPOSITE_INSTANCE_GET_WITHOUT_BULK_DATA,
)

#: Of the UIDs that the standard gives; all others are private.
DICOM_ROOT: Final = "1.2.840.10008."
#: Composite instances of patients.  Hanging protocols, palettes and other objects without a
#: study have storage SOP classes elsewhere and do not belong into a study archive.
_STORAGE_ROOTS: Final = ("1.2.840.10008.5.1.4.1.1.", "1.2.840.10008.5.1.4.34.7")

_YOUNGER_STORAGE: Final = {
    "1.2.840.10008.5.1.4.1.1.2.3": "CT For Processing Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.4": "Enhanced CT For Processing Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.5": "Legacy Converted Enhanced CT For Processing Image Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.1": "Waveform Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.2": "Waveform Acquisition Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.8": "Height Map Segmentation Storage",
}
_YOUNGER_TRANSFER_SYNTAXES: Final = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}

#: Storage SOP class UID → name, retired ones included: old archives hold them.
STORAGE_SOP_CLASSES: Final[dict[str, str]] = {
    uid: entry[0]
    for uid, entry in UIDS.items()
    if entry[1] == "SOP Class" and uid.startswith(_STORAGE_ROOTS) and "Storage" in entry[0]
} | _YOUNGER_STORAGE

#: Not a way to encode composite instances: the SMPTE streams of PS3.22 (RTV), and the
#: encoding of XML.
_NOT_FOR_STORAGE: Final = ("1.2.840.10008.1.2.7.", "1.2.840.10008.1.2.6.")

#: Transfer syntax UID → name, in the order of preference when a peer leaves us the choice.
TRANSFER_SYNTAXES: Final[dict[str, str]] = {
    uid: str(UIDS[uid][0]) for uid in (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
} | {
    uid: name
    for uid, name in (
        {
            uid: entry[0]
            for uid, entry in UIDS.items()
            if entry[1] == "Transfer Syntax" and not uid.startswith(_NOT_FOR_STORAGE)
        }
        | _YOUNGER_TRANSFER_SYNTAXES
    ).items()
    if uid not in (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
}


#: Media Storage Directory Storage: a DICOMDIR names objects and is none (PS3.10 8.6).
MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"
#: Storage is in their names, and nothing is stored by them.
_NO_STORAGE: Final = (MEDIA_STORAGE_DIRECTORY, "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.2")
#: What the worklist files of DCMTK say that they are.
_DCMTK_WORKLIST: Final = "1.2.276.0.7230010.3.1.0.1"


def is_known_for_no_objects(uid: str) -> bool:
    """Whether *uid* names a SOP class whose data sets are no stored objects: queries, worklist
    entries, performed procedure steps, directories."""
    if uid == _DCMTK_WORKLIST or uid in _NO_STORAGE:
        return True
    name, kind = UIDS.get(uid, ("", ""))[:2]
    return kind.endswith("SOP Class") and "Storage" not in name


def uid_of_keyword(keyword: str) -> str | None:
    """The UID that *keyword* stands for, such as ``CTImageStorage``; None: there is none."""
    return _uids_by_keyword().get(keyword)


@cache
def _uids_by_keyword() -> dict[str, str]:
    return {entry[4]: uid for uid, entry in UIDS.items() if entry[4]}


def is_private(uid: str) -> bool:
    """Whether *uid* is nobody's but its maker's."""
    return not uid.startswith(DICOM_ROOT)


def name_of(uid: str) -> str:
    """The name of a UID for people; the UID itself when it has none."""
    entry = UIDS.get(uid)
    if entry is not None:
        return str(entry[0])
    return _YOUNGER_STORAGE.get(uid) or _YOUNGER_TRANSFER_SYNTAXES.get(uid) or uid
