"""Coded entries, judged by the Code Sequence Macro and their context groups (PS3.3 8)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from isocenter.services.dicom.iod.items import Item

if TYPE_CHECKING:
    from isocenter.services.dicom.iod.attributes import Judge

_VALUE: Final = 0x00080100
_LONG_VALUE: Final = 0x00080119
_URN: Final = 0x00080120
_SCHEME: Final = 0x00080102
_MEANING: Final = 0x00080104
#: A code is in one of these (PS3.3 Table 8.8-1a).
_VALUES: Final = (_VALUE, _LONG_VALUE, _URN)
_OLD_SNOMED: Final = frozenset(("SRT", "SNM3", "99SDM"))
_CONTEXT_IDENTIFIER: Final = 0x0008010F
_MAPPING_RESOURCE: Final = 0x00080105
_IS_EXTENDED: Final = 0x0008010B
#: Characters of Code Value; a longer code is in Long Code Value.
_LONGEST: Final = 16
_LONGEST_IDENTIFIER: Final = 6


@lru_cache(maxsize=256)
def _context_group(number: int) -> frozenset[tuple[str, str]] | None:
    """Scheme and code of the members of a context group of PS3.16; None: nobody knows them.

    The tables of pydicom, which take a moment to read, are read at the first entry that says
    which group it is of.
    """
    from pydicom.sr._cid_dict import cid_concepts
    from pydicom.sr._concepts_dict import concepts

    known: Any = concepts
    group = cid_concepts.get(number)
    if not group:
        return None
    return frozenset(
        (scheme, code)
        for scheme, names in group.items()
        for name in names
        for code, (_, groups) in known.get(scheme, {}).get(name, {}).items()
        if number in groups
    )


def _judge_context_group(judge: Judge, item: Item, source: str) -> None:
    """An entry that says which context group its code is of has a code of that group."""
    identifier = item.text(_CONTEXT_IDENTIFIER)
    if (
        not identifier.isdecimal()
        or len(identifier) > _LONGEST_IDENTIFIER
        or item.text(_MAPPING_RESOURCE) != "DCMR"
        or item.text(_IS_EXTENDED) == "Y"
        or item.text(_SCHEME) in _OLD_SNOMED
    ):
        return
    members = _context_group(int(identifier))
    if members is not None and (item.text(_SCHEME), item.text(_VALUE)) not in members:
        judge.add(
            "warning", "CODE-NOT-IN-GROUP",
            f"a coded entry is not of its context group, CID {int(identifier)}", item=item,
            tag=_VALUE, source=f"{source}, PS3.16 CID {int(identifier)}",
        )  # fmt: skip


def judge_coded_entry(judge: Judge, item: Item, source: str) -> None:
    """Judge the item of a code sequence."""
    there = [tag for tag in _VALUES if item.text(tag)]
    if not there:
        judge.add(
            "error", "CODE-VALUE-MISSING",
            "a coded entry has none of Code Value, Long Code Value and URN Code Value",
            item=item, tag=_VALUE, source=f"{source}, PS3.3 8.8",
        )  # fmt: skip
    elif len(there) > 1:
        judge.add(
            "error", "CODE-VALUE-TWICE", "a coded entry has more than one kind of code value",
            item=item, tag=there[1], source=f"{source}, PS3.3 8.8",
        )  # fmt: skip
    if _URN not in there and not item.text(_SCHEME):
        judge.add(
            "error", "CODE-SCHEME-MISSING", "a coded entry does not say its coding scheme",
            item=item, tag=_SCHEME, source=f"{source}, PS3.3 8.8",
        )  # fmt: skip
    if item.text(_SCHEME) in _OLD_SNOMED:
        judge.add(
            "info", "CODE-SCHEME-OLD", "has an old code of SNOMED, in place of SCT", item=item,
            tag=_SCHEME, source="PS3.16 8.1",
        )  # fmt: skip
    _judge_context_group(judge, item, source)
    if not item.text(_MEANING):
        judge.add(
            "error", "CODE-MEANING-MISSING", "a coded entry has no meaning",
            item=item, tag=_MEANING, source=f"{source}, PS3.3 8.8",
        )  # fmt: skip
    if _LONG_VALUE in there and len(item.text(_LONG_VALUE)) <= _LONGEST:
        judge.add(
            "warning", "CODE-VALUE-SHORT",
            "Long Code Value has 16 characters or fewer, which Code Value is for",
            item=item, tag=_LONG_VALUE, source=f"{source}, PS3.3 8.8",
        )  # fmt: skip
