"""Digital signature profiles (PS3.15 C.1 to C.4) and purposes (PS3.16 CID 7007).

The standard lists what a signature of a profile covers at least by modules; here they are groups
and ranges of tags, never narrower.  Whoever signs all there is satisfies each of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from isocenter.services.dicom.signatures.algorithms import SignatureError

_SOP_CLASS: Final = 0x00080016
_SOP_INSTANCE: Final = 0x00080018
_STUDY: Final = 0x0020000D
_SERIES: Final = 0x0020000E
_CREATION: Final = frozenset((0x00080012, 0x00080013))
#: General Equipment (PS3.3 C.7.5.1).
_EQUIPMENT: Final = frozenset(
    (
        0x00080070, 0x00080080, 0x00080081, 0x00081010, 0x00081040, 0x00081090, 0x00181000,
        0x00181002, 0x0018100A, 0x00181020, 0x00181050, 0x00181200, 0x00181201, 0x00280120,
    )
)  # fmt: skip
#: General Image and Multi-frame Functional Groups outside of the groups below (C.7.6.1, C.7.6.16).
_IMAGE: Final = frozenset(
    (
        0x00080008, 0x00080022, 0x00080023, 0x0008002A, 0x00080032, 0x00080033, 0x00081140,
        0x00082111, 0x00082112, 0x00089215, 0x00200012, 0x00200013, 0x00200020, 0x00201002,
        0x00204000, 0x00209161, 0x00209162, 0x00209163, 0x00209221, 0x00209228, 0x00209311,
        0x00700001, 0x00880200,
    )
)  # fmt: skip
#: Image Pixel, segmentation, surface, encapsulated document, waveform, functional groups, pixels.
_IMAGE_GROUPS: Final = frozenset((0x0028, 0x0042, 0x0062, 0x0066, 0x5200, 0x5400, 0x5600, 0x7FE0))
#: Documents (C.17): who verified, evidence, predecessors, and the content itself.
_EVIDENCE: Final = frozenset((0x0040A375, 0x0040A385, 0x0040A360, 0x0040A032))
_VERIFICATION: Final = frozenset((0x0040A493, 0x0040A073, 0x0040A030))
_CONTENT: Final = frozenset((0x0040A040, 0x0040A043, 0x0040A050, 0x0040A504, 0x0040A730))


#: Verification Flag, and what it says of a document that was verified.
VERIFICATION_FLAG: Final = 0x0040A493
VERIFIED: Final = b"VERIFIED"


class Profile(Enum):
    """What a signature shall cover at least, by the name of the command's option."""

    BASE = "base"
    CREATOR = "creator"
    AUTHORIZATION = "authorization"
    SR = "sr"
    SR_VERIFICATION = "sr-verification"

    @property
    def title(self) -> str:
        """As PS3.15 calls it."""
        return _TITLES[self]


_TITLES: Final = {
    Profile.BASE: "Base RSA",
    Profile.CREATOR: "Creator RSA",
    Profile.AUTHORIZATION: "Authorization",
    Profile.SR: "Structured Report RSA",
    Profile.SR_VERIFICATION: "Structured Report RSA, verification",
}


def missing_tags(profile: Profile, signed: Iterable[int], present: Iterable[int]) -> list[int]:
    """Which elements that are there the profile would have signed, and are not."""
    signed = frozenset(signed)
    return [tag for tag in present if tag not in signed and _is_required(profile, tag)]


def check_document(profile: Profile, present: Iterable[int], *, is_verified: bool) -> None:
    """Say why a profile is not for this data set.

    Args:
        is_verified: whether Verification Flag (0040,A493) is VERIFIED.

    Raises:
        SignatureError: it is not.
    """
    if profile not in (Profile.SR, Profile.SR_VERIFICATION):
        return
    if 0x0040A730 not in present and 0x0040A040 not in present:
        raise SignatureError(f"the profile {profile.title} is for structured reports")
    if profile is Profile.SR_VERIFICATION and not is_verified:
        raise SignatureError(
            f"the profile {profile.title} is for documents whose Verification Flag (0040,A493) is "
            "VERIFIED"
        )


def _is_required(profile: Profile, tag: int) -> bool:
    match profile:
        case Profile.BASE:
            return False
        case Profile.CREATOR:
            return (
                tag in (_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES)
                or tag in _CREATION
                or tag in _EQUIPMENT
                or _is_content(tag)
            )
        case Profile.AUTHORIZATION:
            return tag in (_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES) or _is_content(tag)
        case Profile.SR:
            return _is_of_report(tag)
        case Profile.SR_VERIFICATION:
            return tag == _SOP_INSTANCE or tag in _VERIFICATION or _is_of_report(tag)


def _is_of_report(tag: int) -> bool:
    return (
        tag in (_SOP_CLASS, _STUDY, _SERIES)
        or tag in _EQUIPMENT
        or tag in _EVIDENCE
        or tag in _CONTENT
    )


def _is_content(tag: int) -> bool:
    group = tag >> 16
    # Overlay planes and curves repeat (PS3.5 7.6).
    is_drawn = group & 0xFF01 in (0x5000, 0x6000) and group & 0xFFE0 in (0x5000, 0x6000)
    is_document = group == 0x0040 and 0xA000 <= tag & 0xFFFF <= 0xAFFF
    return tag in _IMAGE or group in _IMAGE_GROUPS or is_drawn or is_document


#: Digital Signature Purpose (ASTM E1762, as in CID 7007): code → meaning.
PURPOSES: Final = {
    1: "Author's Signature",
    2: "Coauthor's Signature",
    3: "Co-participant's Signature",
    4: "Transcriptionist/Recorder Signature",
    5: "Verification Signature",
    6: "Validation Signature",
    7: "Consent Signature",
    8: "Signature Witness Signature",
    9: "Event Witness Signature",
    10: "Identity Witness Signature",
    11: "Consent Witness Signature",
    12: "Interpreter Signature",
    13: "Review Signature",
    14: "Source Signature",
    15: "Addendum Signature",
    16: "Modification Signature",
    17: "Administrative (Error/Edit) Signature",
    18: "Timestamp Signature",
}
PURPOSE_SCHEME: Final = "ASTM-sigpurpose"
VERIFICATION_PURPOSE: Final = 5
