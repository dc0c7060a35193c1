"""Context groups: codes of PS3.16 from which a code sequence takes its item."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from isocenter.services.dicom.vocabularies.derived import CodedTerm

#: What images of digital X-ray show.
DX_ANATOMY: Final = 4009
#: Nuclides, and what carries them, of PET.
PET_RADIONUCLIDES: Final = 4020
PET_RADIOPHARMACEUTICALS: Final = 4021
#: What segments show, for Segmented Property Category Code Sequence (0062,0003).
SEGMENT_CATEGORIES: Final = 7150


@lru_cache(maxsize=64)
def context_group(number: int) -> tuple[CodedTerm, ...]:
    """The codes of a context group (CID), by their meanings.

    They come from pydicom's tables, whose edition of PS3.16 is that of its release.

    Raises:
        KeyError: there is no such context group.
    """
    from pydicom.sr.codedict import Collection  # its tables take a while

    try:
        codes = Collection(f"CID{number}").concepts.values()
    except (AttributeError, KeyError) as error:
        raise KeyError(f"PS3.16 has no context group {number}") from error
    terms = {CodedTerm(code.value, code.scheme_designator, code.meaning) for code in codes}
    return tuple(sorted(terms, key=lambda term: (term.meaning.casefold(), term)))


def code_of(number: int, value: str, scheme: str) -> CodedTerm | None:
    """The term of a context group that has this code; None: it is none of them, which an
    extensible group allows."""
    wanted = value.strip(" \0"), scheme.strip(" \0")
    return next((term for term in context_group(number) if term[:2] == wanted), None)
