"""General purpose media profiles (PS3.11), by their transfer syntaxes."""

from __future__ import annotations

from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN

_JPEG: Final = ("1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_JPEG_2000: Final = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One profile.

    Attributes:
        option: of DCMTK's dcmmkdir, for the same.
        transfer_syntaxes: that its files may have.
    """

    name: str
    option: str
    transfer_syntaxes: tuple[str, ...]


def _profile(name: str, option: str, *more: str) -> Profile:
    return Profile(name=name, option=option, transfer_syntaxes=(EXPLICIT_VR_LITTLE_ENDIAN, *more))


_VIDEO: Final = "1.2.840.10008.1.2.4."
PROFILES: Final = {
    profile.name: profile
    for profile in (
        _profile("STD-GEN-CD", "-Pgp"),
        _profile("STD-GEN-DVD-JPEG", "-Pdv", *_JPEG),
        _profile("STD-GEN-DVD-J2K", "-Pd2", *_JPEG_2000),
        _profile("STD-GEN-USB-JPEG", "-Pfl", *_JPEG),
        _profile("STD-GEN-USB-J2K", "-Pf2", *_JPEG_2000),
        _profile("STD-GEN-BD-JPEG", "-Pbd", *_JPEG),
        _profile("STD-GEN-BD-J2K", "-Pb2", *_JPEG_2000),
        _profile("STD-GEN-BD-MPEG2-MPML", "-Pbm", f"{_VIDEO}100"),
        _profile("STD-GEN-BD-MPEG2-MPHL", "-Pbh", f"{_VIDEO}101"),
        _profile("STD-GEN-BD-MPEG4-HPLV41", "-Pba", f"{_VIDEO}102"),
        _profile("STD-GEN-BD-MPEG4-HPLV41BD", "-Pbb", f"{_VIDEO}103"),
    )
}
