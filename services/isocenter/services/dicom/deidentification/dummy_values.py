"""Dummy values in the place of those that must not be empty (PS3.15 E.1.1)."""

from __future__ import annotations

from typing import Final

#: In texts, and in names.
ANONYMIZED: Final = "ANONYMIZED"
ANONYMOUS: Final = "ANONYMOUS"
_DUMMIES: Final = {
    "AE": ANONYMOUS, "AS": "000D", "CS": ANONYMIZED, "DA": "19000101", "DS": "0",
    "DT": "19000101000000", "IS": "0", "LO": ANONYMIZED, "LT": ANONYMIZED, "PN": ANONYMOUS,
    "SH": ANONYMIZED, "ST": ANONYMIZED, "TM": "000000", "UC": ANONYMIZED,
    "UR": "urn:uuid:00000000-0000-0000-0000-000000000000", "UT": ANONYMIZED,
}  # fmt: skip
_WIDTHS: Final = {
    "AT": 4, "FD": 8, "FL": 4, "OB": 2, "OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2, "SL": 4,
    "SS": 2, "SV": 8, "UL": 4, "UN": 2, "US": 2, "UV": 8,
}  # fmt: skip


def dummy_of(vr: str) -> bytes:
    """A value of a VR other than SQ and UI that says nothing, unpadded."""
    text = _DUMMIES.get(vr)
    return text.encode("ascii") if text is not None else bytes(_WIDTHS.get(vr, 2))
