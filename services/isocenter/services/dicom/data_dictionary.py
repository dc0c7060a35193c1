"""The data dictionary (PS3.6), of public and of known private elements.

What a VR is when a data set does not say it, for readers and writers of every kind.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from pydicom.datadict import (  # type: ignore[attr-defined]  # DicomDictionary is documented
    DicomDictionary,
    dictionary_VR,
    private_dictionary_VR,
)

from isocenter.engine.dataset.vr import LONG_VRS, SHORT_VRS

#: Sequences of the data dictionary: what implicit VR does not say.
DICTIONARY_SEQUENCES: Final = frozenset(
    tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ"
)


@lru_cache(maxsize=4096)
def dictionary_vr(tag: int) -> str:
    """The VR of the data dictionary, the first where it leaves a choice; UN when it has none."""
    if not tag & 0xFFFF:
        return "UL"  # group length (PS3.5 7.2)
    try:
        vr = dictionary_VR(tag).split(" or ")[0]
    except KeyError:
        return "UN"
    return vr if vr in SHORT_VRS or vr in LONG_VRS else "UN"


def dictionary_vr_choice(tag: int, private_creator: str | None = None) -> str:
    """The VR of the dictionary as it stands there, such as ``US or SS``; UN when it has none."""
    try:
        if private_creator is not None:
            return private_dictionary_VR(tag, private_creator)
        return dictionary_VR(tag)
    except KeyError:
        return "UN"
