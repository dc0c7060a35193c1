"""Navigation of the pages: groups, and the pages of one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import field
from enum import Enum

from isocenter.engine.fast_init import dataclass


class Group(Enum):
    """What pages are about, in the order of how often somebody wants them."""

    STUDIES = "Studies"
    WORKFLOW = "Workflow"
    NETWORK = "Network"
    ACCESS = "Access"
    SYSTEM = "System"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the pages, as the navigation shows it.

    Attributes:
        needs: whoever has not got that does not see it.
    """

    group: Group
    name: str
    path: str
    text: str
    needs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One entry of a menu."""

    path: str
    text: str
    is_current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """The navigation of one page: groups of pages, and the pages of its own group."""

    groups: Sequence[Link] = field(default_factory=tuple)
    pages: Sequence[Link] = field(default_factory=tuple)


def menu_of(sections: Sequence[Section], may: Collection[str], section: str) -> Menu:
    """The navigation for somebody on a page of *section*.

    Args:
        may: what somebody may do; a group leads to the first page of it that this allows.
    """
    allowed = [one for one in sections if one.needs in may]
    here = next((one.group for one in sections if one.name == section), None)
    return Menu(
        groups=tuple(_groups(allowed, here)),
        pages=tuple(
            Link(path=one.path, text=one.text, is_current=one.name == section)
            for one in allowed
            if one.group is here
        ),
    )


def _groups(allowed: Sequence[Section], here: Group | None) -> Iterator[Link]:
    for group in Group:
        first = next((one for one in allowed if one.group is group), None)
        if first is not None:
            yield Link(path=first.path, text=group.value, is_current=group is here)
