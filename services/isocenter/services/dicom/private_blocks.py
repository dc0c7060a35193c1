"""Blocks of private attributes in pydicom data sets (PS3.5 7.8.1).

A block is reserved by an element (gggg,0010) to (gggg,00FF) that names its creator; its
attributes are (gggg,bb00) to (gggg,bbFF), bb being the last byte of that element.  All functions
look at one level: of items call them with the item.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError

if TYPE_CHECKING:
    import pydicom

_FIRST_BLOCK: Final = 0x10
_LAST_BLOCK: Final = 0xFF
_MAX_CREATOR: Final = 64
#: Odd, and no private groups (PS3.5 7.8).
_ILLEGAL_GROUPS: Final = frozenset({0x0001, 0x0003, 0x0005, 0x0007, 0xFFFF})


class PrivateBlockError(IsocenterError, ValueError):
    """A block that cannot be had: no private group, no creator's name, or none is free."""

    error_code = ErrorCode.ELEMENT_TAG


def is_private_group(group: int) -> bool:
    """Whether elements of a group may be private."""
    return 0 < group < 0xFFFF and group & 1 == 1 and group not in _ILLEGAL_GROUPS


def is_creator(tag: int) -> bool:
    """Whether an element reserves a block."""
    return is_private_group(tag >> 16) and _FIRST_BLOCK <= tag & 0xFFFF <= _LAST_BLOCK


def is_private_data(tag: int) -> bool:
    """Whether an element is one of a block."""
    return is_private_group(tag >> 16) and tag & 0xFFFF > _LAST_BLOCK


def creator_tag_of(tag: int) -> int:
    """The element that reserves the block of private *tag*."""
    return tag & 0xFFFF0000 | (tag & 0xFFFF) >> 8


def block_of(creator_tag: int) -> range:
    """The tags that a creator's element reserves."""
    first = creator_tag & 0xFFFF0000 | (creator_tag & 0xFF) << 8
    return range(first, first + 0x100)


def creator_of(data: pydicom.Dataset, tag: int) -> str | None:
    """Who reserved the block of private *tag*; None: nobody, or it is no private attribute."""
    return (_name(data, creator_tag_of(tag)) or None) if is_private_data(tag) else None


def creators_in(data: pydicom.Dataset, group: int) -> dict[str, int]:
    """Creators of a group and their elements; of a creator with several, the first."""
    found: dict[str, int] = {}
    for tag in _creator_tags(data, group):
        name = _name(data, tag)
        if name:
            found.setdefault(name, tag)
    return found


def tags_of_block(data: pydicom.Dataset, group: int, creator: str) -> list[int]:
    """The attributes of a creator in a group, of all its blocks, in their order."""
    blocks = [tag for tag in _creator_tags(data, group) if _name(data, tag) == creator]
    return [int(tag) for block in blocks for tag in block_of(block) if tag in data]


def add_private(
    data: pydicom.Dataset, group: int, creator: str, element: int, vr: str, value: object
) -> int:
    """Put an attribute into a creator's block, which is reserved where it is not yet; its tag.

    Args:
        element: the last byte of the tag.

    Raises:
        PrivateBlockError: the group is not private, the creator has no name or one over 64
            characters, *element* is over FFH, or all blocks of the group are reserved.
    """
    if not is_private_group(group):
        raise PrivateBlockError(f"{group:04X} is no private group (PS3.5 7.8)")
    name = creator.strip()
    if not name or len(name) > _MAX_CREATOR or "\\" in name:
        raise PrivateBlockError("a creator has a name of 1 to 64 characters, and one only")
    if not 0 <= element <= 0xFF:
        raise PrivateBlockError(f"{element:X} is no element of a block: 00 to FF")
    reserved = creators_in(data, group).get(name)
    if reserved is None:
        reserved = _free_block(data, group)
        data.add_new(reserved, "LO", name)
    tag = block_of(reserved)[element]
    data.add_new(tag, vr, value)
    return tag


def remove_block(data: pydicom.Dataset, group: int, creator: str) -> int:
    """Remove a creator's attributes and what reserves them; how many attributes there were."""
    tags = tags_of_block(data, group, creator)
    for tag in tags:
        del data[tag]
    for tag in [tag for tag in _creator_tags(data, group) if _name(data, tag) == creator]:
        del data[tag]
    return len(tags)


def remove_empty_blocks(data: pydicom.Dataset) -> int:
    """Remove creators without an attribute; how many there were."""
    empty = [
        tag
        for tag in map(int, list(data.keys()))
        if is_creator(tag) and not any(each in data for each in block_of(tag))
    ]
    for tag in empty:
        del data[tag]
    return len(empty)


def orphans(data: pydicom.Dataset) -> list[int]:
    """Private attributes whose block nobody reserved: nobody can tell what they are."""
    return [
        tag for tag in map(int, data.keys()) if is_private_data(tag) and not creator_of(data, tag)
    ]


def _creator_tags(data: pydicom.Dataset, group: int) -> Iterator[int]:
    if is_private_group(group):
        for element in range(_FIRST_BLOCK, _LAST_BLOCK + 1):
            tag = group << 16 | element
            if tag in data:
                yield tag


def _free_block(data: pydicom.Dataset, group: int) -> int:
    taken = {creator_tag_of(tag) for tag in map(int, data.keys()) if tag >> 16 == group}
    for element in range(_FIRST_BLOCK, _LAST_BLOCK + 1):
        tag = group << 16 | element
        # Attributes without a creator are not to become somebody's.
        if tag not in data and tag not in taken:
            return tag
    raise PrivateBlockError(f"all blocks of group {group:04X} are reserved")


def _name(data: pydicom.Dataset, tag: int) -> str:
    if tag not in data:
        return ""
    value = data[tag].value
    return value.strip() if isinstance(value, str) else ""
