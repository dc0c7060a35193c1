"""Options of the confidentiality profile, with their codes (PS3.15 E.3, PS3.16 CID 7050)."""

from __future__ import annotations

from enum import Enum
from typing import Final

#: Of the profile itself: the code of CID 7050, and its meaning.
BASIC_PROFILE: Final = ("113100", "Basic Application Confidentiality Profile")


class Option(Enum):
    """An option; its value is what people write and what the tables say."""

    PIXELS = "pixels"
    GRAPHICS = "graphics"
    STRUCTURED = "structured"
    DESCRIPTORS = "descriptors"
    FULL_DATES = "full"
    MODIFIED_DATES = "modified"
    PATIENT = "patient"
    DEVICE = "device"
    UIDS = "uids"
    PRIVATE = "private"
    INSTITUTION = "institution"

    @property
    def code(self) -> str:
        """Its code of CID 7050."""
        return _CODES[self][0]

    @property
    def meaning(self) -> str:
        """The meaning of the code."""
        return f"{_CODES[self][1]} Option"


_CODES: Final = {
    Option.PIXELS: ("113101", "Clean Pixel Data"),
    Option.GRAPHICS: ("113103", "Clean Graphics"),
    Option.STRUCTURED: ("113104", "Clean Structured Content"),
    Option.DESCRIPTORS: ("113105", "Clean Descriptors"),
    Option.FULL_DATES: ("113106", "Retain Longitudinal Temporal Information Full Dates"),
    Option.MODIFIED_DATES: ("113107", "Retain Longitudinal Temporal Information Modified Dates"),
    Option.PATIENT: ("113108", "Retain Patient Characteristics"),
    Option.DEVICE: ("113109", "Retain Device Identity"),
    Option.UIDS: ("113110", "Retain UIDs"),
    Option.PRIVATE: ("113111", "Retain Safe Private"),
    Option.INSTITUTION: ("113112", "Retain Institution Identity"),
}
