"""Conditions of a rule: patterns on attributes and on the sender.

A pattern is text with ``*`` for any characters and ``?`` for one; ``!`` before it denies.
Of several values of an attribute one suffices, and one that is missing is empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.attribute_path import TagOrPath
from isocenter.services.dicom.wildcards import wildcard_match

#: Names for what rules look at most.
FIELDS: Final[Mapping[str, int]] = {
    "modality": 0x00080060,
    "station_name": 0x00081010,
    "institution": 0x00080080,
    "department": 0x00081040,
    "referring_physician": 0x00080090,
    "study_description": 0x00081030,
    "series_description": 0x0008103E,
    "body_part": 0x00180015,
    "patient_id": 0x00100020,
    "sop_class_uid": 0x00080016,
}
CALLING_AE: Final = "calling_ae"
CALLED_AE: Final = "called_ae"
_DENIAL: Final = "!"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who sent an object: AE titles of the association that it came on."""

    calling_ae_title: str = ""
    called_ae_title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One line of a rule's ``when``.

    Attributes:
        field: as the rule names it.
        place: the attribute; None: *field* is an AE title of the association.
        patterns: one of those without ``!`` has to fit, and none of those with it.
    """

    field: str
    place: TagOrPath | None
    patterns: tuple[str, ...]
    case_sensitive: bool = False

    def holds(self, sender: Sender, attributes: Mapping[TagOrPath, str]) -> bool:
        """Whether an object is meant.

        Args:
            attributes: decoded text, several values joined by a backslash.
        """
        if self.place is not None:
            text = attributes.get(self.place, "")
        elif self.field == CALLING_AE:
            text = sender.calling_ae_title
        else:
            text = sender.called_ae_title
        if not self.case_sensitive:
            text = text.casefold()
        values = text.split("\\")
        wanted = fits = False
        for pattern in self.patterns:
            if not self.case_sensitive:
                pattern = pattern.casefold()
            denies = pattern.startswith(_DENIAL)
            found = any(wildcard_match(pattern.removeprefix(_DENIAL), value) for value in values)
            if denies and found:
                return False
            if not denies:
                wanted = True
                fits = fits or found
        return fits or not wanted


def fingerprint_of(conditions: Sequence[Condition]) -> str:
    """A text that is the same for the same conditions, in whatever order, and never empty."""
    lines = sorted(
        repr((one.field, one.place, sorted(one.patterns), one.case_sensitive)) for one in conditions
    )
    return sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:32]
