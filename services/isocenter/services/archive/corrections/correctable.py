"""Attributes of patient, study and series for correction (PS3.3 C.7.1 to C.7.3).

Not in here: UIDs, which are what moving and splitting change; what describes pixels, frames or
the acquisition; and sequences.
"""

from __future__ import annotations

from typing import Final

from isocenter.services.archive.index.attributes import ATTRIBUTES, Level

#: Beyond what the index keeps.
_MORE: Final = {
    Level.PATIENT: (
        0x00101001,  # Other Patient Names
        0x00101005,  # Patient's Birth Name
        0x00101060,  # Patient's Mother's Birth Name
        0x00101040,  # Patient's Address
        0x00102154,  # Patient's Telephone Numbers
        0x001021F0,  # Patient's Religious Preference
    ),
    Level.STUDY: (
        0x00081048,  # Physician(s) of Record
        0x00081080,  # Admitting Diagnoses Description
        0x00102180,  # Occupation
        0x001021B0,  # Additional Patient History
        0x001021C0,  # Pregnancy Status
        0x00102110,  # Allergies
        0x00102000,  # Medical Alerts
        0x00321032,  # Requesting Physician
        0x00321033,  # Requesting Service
        0x00321060,  # Requested Procedure Description
        0x00380010,  # Admission ID
    ),
    Level.SERIES: (
        0x00080081,  # Institution Address
        0x00081040,  # Institutional Department Name
        0x00081070,  # Operators' Name
        0x00081090,  # Manufacturer's Model Name
        0x00181000,  # Device Serial Number
        0x00185100,  # Patient Position
        0x00400253,  # Performed Procedure Step ID
        0x00400254,  # Performed Procedure Step Description
    ),
}

#: Tag → level.
LEVEL_OF: Final = {
    each.tag: each.level
    for each in ATTRIBUTES
    if not each.computed and each.vr not in ("UI", "SQ") and each.level is not Level.IMAGE
} | {tag: level for level, tags in _MORE.items() for tag in tags}
