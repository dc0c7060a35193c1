"""Transfer syntaxes as encodings, and the encoding rules of VRs (PS3.5 6.2, 7.1.2)."""

from __future__ import annotations

from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the elements of a data set are written (PS3.5 10, Annex A)."""

    implicit_vr: bool
    big_endian: bool = False
    deflated: bool = False


IMPLICIT_LITTLE: Final = Encoding(implicit_vr=True)
EXPLICIT_LITTLE: Final = Encoding(implicit_vr=False)
EXPLICIT_BIG: Final = Encoding(implicit_vr=False, big_endian=True)
DEFLATED_LITTLE: Final = Encoding(implicit_vr=False, deflated=True)

_ENCODINGS: Final = {
    IMPLICIT_VR_LITTLE_ENDIAN: IMPLICIT_LITTLE,
    EXPLICIT_VR_LITTLE_ENDIAN: EXPLICIT_LITTLE,
    EXPLICIT_VR_BIG_ENDIAN: EXPLICIT_BIG,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: DEFLATED_LITTLE,
    # The two JPIP Referenced Deflate syntaxes deflate the data set the same way (PS3.5 A.7, A.9).
    "1.2.840.10008.1.2.4.95": DEFLATED_LITTLE,
    "1.2.840.10008.1.2.4.205": DEFLATED_LITTLE,
}


def encoding_of(transfer_syntax_uid: str) -> Encoding:
    """The encoding of a transfer syntax; explicit VR little endian for every one that is not
    listed, as PS3.5 A.4 prescribes for encapsulated ones and practice shows for private ones."""
    return _ENCODINGS.get(transfer_syntax_uid, EXPLICIT_LITTLE)


def _vrs(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Two reserved bytes and a 32-bit length follow these in explicit VR (PS3.5 Table 7.1-1).
LONG_VRS: Final = _vrs("OB OD OF OL OV OW SQ SV UC UN UR UT UV")
#: A 16-bit length follows these in explicit VR (PS3.5 Table 7.1-2).
SHORT_VRS: Final = _vrs("AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US")
#: What may have undefined length besides a sequence: encapsulated values (PS3.5 A.4).
ENCAPSULATED_VRS: Final = frozenset(("OB", "OW"))
#: Values are padded to even length with a space; all other VRs with NUL (PS3.5 6.2).
SPACE_PADDED_VRS: Final = _vrs("AE AS CS DA DS DT IS LO LT PN SH ST TM UC UR UT")

#: Bytes that change places when the byte order changes (PS3.5 7.3), 1 where not listed.
#: An AT is two 16-bit numbers.
SWAP_WIDTH: Final = {
    "US": 2,
    "SS": 2,
    "OW": 2,
    "AT": 2,
    "UL": 4,
    "SL": 4,
    "FL": 4,
    "OF": 4,
    "OL": 4,
    "FD": 8,
    "OD": 8,
    "OV": 8,
    "SV": 8,
    "UV": 8,
}

#: The longest value that a 16-bit length can announce; longer ones become UN (PS3.5 6.2.2).
MAX_SHORT_LENGTH: Final = 0xFFFE
#: The length that says: up to the delimitation item (PS3.5 7.1.1).
UNDEFINED_LENGTH: Final = 0xFFFFFFFF

ITEM: Final = 0xFFFEE000
ITEM_DELIMITATION: Final = 0xFFFEE00D
SEQUENCE_DELIMITATION: Final = 0xFFFEE0DD
#: What is no element (PS3.5 7.5).
DELIMITERS: Final = frozenset((ITEM, ITEM_DELIMITATION, SEQUENCE_DELIMITATION))
PIXEL_DATA: Final = 0x7FE00010
#: Command set, File Meta Information, directory: a data set may not begin with them, since a
#: reader would take them for what they are elsewhere.
DANGEROUS_GROUPS: Final = frozenset((0x0000, 0x0002, 0x0004))
