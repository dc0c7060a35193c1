"""UIDs as checked text (PS3.5 9.1), and the few that the protocol itself needs."""

from __future__ import annotations

import re
from typing import Final

_UID: Final = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")
_TOLERANT_UID: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*")

#: The only application context of DICOM (PS3.7 A.2.1).
APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
#: The four transfer syntaxes that differ in their bytes only, not in what they can say, in the
#: order of preference.  Every peer has to take the second (PS3.5 10.1).
UNCOMPRESSED: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)
#: The SOP class of C-ECHO (PS3.4 A.4).
VERIFICATION: Final = "1.2.840.10008.1.1"
#: What the SOP classes begin with that C-STORE brings images and documents of (PS3.4 B.5).
STORAGE_ROOT: Final = "1.2.840.10008.5.1.4.1.1."

#: Who we say we are (PS3.7 D.3.3.2); the root is a UUID-derived one (PS3.5 B.2).
IMPLEMENTATION_CLASS_UID: Final = "2.25.222718164403713364930419184462713110283"
IMPLEMENTATION_VERSION_NAME: Final = "ISOCENTER_1"


def is_uid(text: str) -> bool:
    """Whether *text* is a UID as PS3.5 9.1 writes it: at most 64 characters, no leading zeros."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def is_safe_uid(text: str) -> bool:
    """Whether *text* is made of numbers and single dots only, at most 64 characters.

    Real archives hold UIDs with leading zeros in a component; they are accepted,
    as they name an object without any risk.  ``/``, ``..``, an empty text, NUL or
    any other character are not.
    """
    return len(text) <= 64 and _TOLERANT_UID.fullmatch(text) is not None
