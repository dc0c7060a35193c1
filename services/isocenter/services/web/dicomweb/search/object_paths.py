"""Paths to attributes of objects; of private ones with who reserved their blocks."""

from __future__ import annotations

from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One attribute of a path.

    Attributes:
        creator: who reserved the block of a private attribute (PS3.5 7.8): it is looked for in
            the block that an object has for them; empty: in the one of the tag.
    """

    tag: int
    creator: str = ""


ObjectPath = tuple[Step, ...]


def is_private(tag: int) -> bool:
    """Whether *tag* is that of a private attribute, not of who reserved its block."""
    return bool(tag & 0x10000) and tag & 0xFFFF >= 0x1000


def creator_tag(tag: int) -> int:
    """Where it says who reserved the block of a private attribute."""
    return tag & 0xFFFF0000 | (tag & 0xFF00) >> 8
