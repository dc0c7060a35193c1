"""Table of SOP classes, IODs, modules and attributes, read at its first use (PS3.3).

`packaging/iod/build_table.py` makes it; `LICENSES.txt` says out of what.
"""

from __future__ import annotations

import json
import lzma
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

#: An expression, as `packaging/iod/condition_grammar.py` has it.
Expression = list[Any]
_SHARED_GROUPS: Final = 0x52009229
_PER_FRAME_GROUPS: Final = 0x52009230


_ROW_DEFAULTS: Final[tuple[Any, ...]] = (0, "3", -1, (), -1, 0, 0)


class Condition(NamedTuple):
    """When something has to be there.

    Attributes:
        otherwise: ``may`` or ``no`` where *required* is false, or when it may.
        never: when it must not be there; None: nothing is said.
    """

    required: Expression
    otherwise: str | Expression
    never: Expression | None


class ValueList(NamedTuple):
    """Values that an attribute may have.

    Attributes:
        is_enumerated: whether there are no others; others than defined terms may be.
        number: of the value that is meant, from 1; 0: every one.
        when: it counts; None: always.
    """

    is_enumerated: bool
    number: int
    values: frozenset[str]
    when: Expression | None


class Row(NamedTuple):
    """An attribute of a module.

    Attributes:
        type: 1, 1C, 2, 2C or 3.
        condition: of 1C and 2C; None: it was not understood.
        rows: of the items, where it is a sequence.
        is_code: whether its items are coded entries (PS3.3 8.8).
        edition: of condition and values, or of the type.
    """

    tag: int
    type: str
    condition: Condition | None
    values: tuple[ValueList, ...]
    rows: tuple[Row, ...]
    is_code: bool
    edition: str


class ModuleUse(NamedTuple):
    """A module in an IOD.

    Attributes:
        usage: M, C or U.
        own: tags that tell whether it is used, where it may not be.
    """

    name: str
    usage: str
    condition: Condition | None
    rows: tuple[Row, ...]
    own: frozenset[int]


class GroupUse(NamedTuple):
    """A functional group macro in an IOD.

    Attributes:
        sequence: its tag.
        row: of that sequence; None: the table has none.
    """

    name: str
    sequence: int
    usage: str
    condition: Condition | None
    row: Row | None


class Iod(NamedTuple):
    """An information object definition."""

    name: str
    modules: tuple[ModuleUse, ...]
    groups: tuple[GroupUse, ...]


class IodTable:
    """The table; each IOD is made of it when it is asked for."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self._raw = raw
        self._rows: dict[int, Row] = {}
        self._conditions: dict[int, Condition] = {}
        self._lists: dict[int, ValueList] = {}
        self._iods: dict[int, Iod] = {}
        self._groups: dict[int, tuple[Row, ...]] = {}

    @property
    def sop_classes(self) -> dict[str, str]:
        """SOP class UID → name of its IOD."""
        iods = self._raw["iods"]
        return {uid: iods[number][0] for uid, number in self._raw["sop_classes"].items()}

    @property
    def counts(self) -> dict[str, int]:
        """How many rows, conditions and lists there are, and how many were not understood."""
        return dict(self._raw["counts"])

    @property
    def editions(self) -> tuple[str, ...]:
        """Of the standard, and where they are from."""
        return tuple(self._raw["editions"])

    def iod_of(self, sop_class_uid: str) -> Iod | None:
        """The IOD of a SOP class; None: the table does not have it."""
        number = self._raw["sop_classes"].get(sop_class_uid)
        if number is None:
            return None
        if number not in self._iods:
            self._iods[number] = self._iod(*self._raw["iods"][number])
        return self._iods[number]

    def module_rows(self, name: str) -> tuple[Row, ...]:
        """The attributes of a module, by its name; none where there is none."""
        for title, group in self._raw["modules"]:
            if title == name:
                return self._group(group)
        return ()

    def _iod(self, name: str, uses: list[Any], groups: list[Any]) -> Iod:
        rows = [self._group(self._raw["modules"][module][1]) for module, _, _ in uses]
        tags = [frozenset(row.tag for row in each) for each in rows]
        modules = []
        for place, (module, usage, condition) in enumerate(uses):
            others = [each for n, each in enumerate(tags) if n != place]
            mandatory = [each for n, each in enumerate(tags) if n != place and uses[n][1] == "M"]
            own = tags[place].difference(*others) or tags[place].difference(*mandatory)
            modules.append(
                ModuleUse(
                    self._raw["modules"][module][0], usage, self._condition(condition),
                    rows[place], own,
                )
            )  # fmt: skip
        within = {
            row.tag: row
            for each in rows
            for outer in each
            if outer.tag in (_SHARED_GROUPS, _PER_FRAME_GROUPS)
            for row in outer.rows
        }
        return Iod(
            name,
            tuple(modules),
            tuple(
                GroupUse(title, tag, usage, self._condition(condition), within.get(tag))
                for tag, title, usage, condition in groups
            ),
        )

    def _group(self, number: int) -> tuple[Row, ...]:
        if number < 0:
            return ()
        if number not in self._groups:
            self._groups[number] = tuple(self._row(row) for row in self._raw["groups"][number])
        return self._groups[number]

    def _row(self, number: int) -> Row:
        if number not in self._rows:
            raw: list[Any] = self._raw["rows"][number]
            # What is not said at the end of a row is nothing.
            whole: list[Any] = [*raw, *_ROW_DEFAULTS[len(raw) :]]
            tag, type_, condition, lists, children, is_code, edition = whole
            self._rows[number] = Row(
                tag, type_, self._condition(condition), tuple(map(self._list, lists)),
                self._group(children), bool(is_code), self._raw["editions"][edition],
            )  # fmt: skip
        return self._rows[number]

    def _condition(self, number: int) -> Condition | None:
        if number < 0:
            return None
        if number not in self._conditions:
            self._conditions[number] = Condition(*self._raw["conditions"][number])
        return self._conditions[number]

    def _list(self, number: int) -> ValueList:
        if number not in self._lists:
            kind, place, values, when = self._raw["values"][number]
            self._lists[number] = ValueList(kind == "E", place, frozenset(values), when)
        return self._lists[number]


@cache
def iod_table() -> IodTable:
    """The table; the first call reads it, in some ten milliseconds."""
    packed = files("isocenter.services.dicom.iod").joinpath("table.json.xz").read_bytes()
    return IodTable(json.loads(lzma.decompress(packed)))
