"""Presentation contexts for objects that a C-GET brings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.engine.uid import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.association.requestor import Context
from isocenter.services.dicom.uid_registry import TRANSFER_SYNTAXES

#: One of the 128 is for the C-GET itself.
MOST_RETRIEVE_CONTEXTS: Final = 127
_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
_JPEG: Final = "1.2.840.10008.1.2.4."

#: Compressed syntaxes in the order in which archives hold them.
_COMPRESSED: Final = (
    f"{_JPEG}70",
    f"{_JPEG}90",
    f"{_JPEG}50",
    f"{_JPEG}80",
    "1.2.840.10008.1.2.5",
    f"{_JPEG}91",
    f"{_JPEG}51",
    f"{_JPEG}57",
    f"{_JPEG}81",
)
#: The order in which transfer syntaxes are proposed.
SYNTAX_ORDER: Final = tuple(
    dict.fromkeys(
        (
            EXPLICIT_VR_LITTLE_ENDIAN,
            IMPLICIT_VR_LITTLE_ENDIAN,
            *_COMPRESSED,
            EXPLICIT_VR_BIG_ENDIAN,
            *TRANSFER_SYNTAXES,
        )
    )
)


def _uids(suffixes: str) -> tuple[str, ...]:
    return tuple(_STORAGE + suffix for suffix in suffixes.split())


#: The usual SOP classes, those that are compressed first.
USUAL_IMAGES: Final = _uids("2 4 1 1.1 1.2 6.1 3.1 7 12.1 12.2 128 20")
_USUAL_OTHERS: Final = _uids(
    "2.1 2.2 4.1 4.2 4.3 4.4 1.1.1 1.2.1 1.3 1.3.1 6 3 6.2 5 7.1 7.2 7.3 7.4 11.1 11.2 11.3 "
    "11.4 12.1.1 12.2.1 13.1.1 13.1.2 13.1.3 14.1 130 128.1 30 66 66.1 66.3 66.4 66.5 67 "
    "77.1.1 77.1.1.1 77.1.2 77.1.2.1 77.1.3 77.1.4 77.1.4.1 77.1.5.1 77.1.5.2 77.1.5.4 "
    "77.1.6 78.1 79.1 80.1 88.11 88.22 88.33 88.34 88.40 88.50 88.59 88.65 88.67 104.1 "
    "104.2 104.3 481.1 481.2 481.3 481.4 481.5 481.8 481.9 9.1.1 9.1.2 9.1.3 9.2.1 9.3.1 9.4.1"
)
#: What is proposed together where there is no room to propose them apart.
_PLAIN_GROUP: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)


def retrieve_contexts(
    sop_classes: Sequence[str] = (), groups: Sequence[Sequence[str]] = ()
) -> list[Context]:
    """Presentation contexts for what a C-GET may bring: at most 127, one is left for the C-GET.

    An accepted context carries one transfer syntax, so syntaxes stand apart where there is room.
    Propose them beside that of the C-GET, and their SOP classes as *scp_roles*
    (`open_association`).

    Args:
        sop_classes: of what is wanted, as SOP Classes in Study (0008,0062) names them; empty:
            nobody knows, so the usual ones.
        groups: transfer syntaxes, each group for a context of its own; empty: the usual ones.
    """
    if not sop_classes:
        usual = (*USUAL_IMAGES, *_USUAL_OTHERS)
        if groups:
            return contexts_of(usual, groups, MOST_RETRIEVE_CONTEXTS)
        plain = contexts_of(usual, (_PLAIN_GROUP,), MOST_RETRIEVE_CONTEXTS)
        compressed = tuple((uid,) for uid in _COMPRESSED)
        return [*plain, *contexts_of(USUAL_IMAGES, compressed, MOST_RETRIEVE_CONTEXTS - len(plain))]
    if groups:
        return contexts_of(sop_classes, groups, MOST_RETRIEVE_CONTEXTS)
    if len(_PLAIN_GROUP) * len(sop_classes) > MOST_RETRIEVE_CONTEXTS:
        return contexts_of(sop_classes, (_PLAIN_GROUP,), MOST_RETRIEVE_CONTEXTS)
    apart = tuple((uid,) for uid in SYNTAX_ORDER)
    return contexts_of(sop_classes, apart, MOST_RETRIEVE_CONTEXTS)


def contexts_of(
    sop_classes: Sequence[str], groups: Sequence[Sequence[str]], most: int
) -> list[Context]:
    """Presentation contexts: the first group for every class, then the second, up to *most*."""
    contexts: list[Context] = [(uid, tuple(group)) for group in groups for uid in sop_classes]
    return contexts[:most]
