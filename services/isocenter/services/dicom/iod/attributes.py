"""Attributes of modules, judged by type, condition and values (PS3.3, PS3.5 7.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.services.dicom.iod.coded_entries import judge_coded_entry
from isocenter.services.dicom.iod.conditions import is_true
from isocenter.services.dicom.iod.findings import (
    MAX_PLACES,
    Collector,
    Finding,
    Result,
    Severity,
    TooManyPlacesError,
)
from isocenter.services.dicom.iod.items import Element, Item
from isocenter.services.dicom.iod.table import Condition, Row, ValueList

#: Groups of overlays, and of what else repeats (PS3.5 7.6); the table has the first of them.
_REPEATING_GROUPS: Final = (0x6000, 0x5000)
_LAST_REPETITION: Final = 0x1E
#: Whether an item has the attributes of its sequence's rows is judged elsewhere.
_JUDGED_ELSEWHERE: Final = frozenset((0x52009229, 0x52009230, 0x0040A730))
#: A list of more values is named by its length.
_MOST_SHOWN: Final = 12


class Judge:
    """Judges one object.

    Attributes:
        prefix: of codes.
        takes: what is asked for: types ``1`` and ``2``, ``C`` for conditions, ``V`` for values.
    """

    def __init__(self, prefix: str, result: Result, takes: frozenset[str] = frozenset("12CV")):
        self.prefix = prefix
        self.found = Collector()
        self.takes = takes
        self.result = result
        self._places = 0
        #: Places of which something is said already, so that no second module says it again.
        self._missing: dict[tuple[int, int], Finding] = {}
        self._values_judged: set[tuple[int, int, int]] = set()

    def add(
        self, severity: Severity, rule: str, message: str, *, item: Item | None = None,
        tag: int | None = None, source: str = "", edition: str = "",
    ) -> Finding:  # fmt: skip
        """A finding, with the prefix of this object's IOD.

        Raises:
            TooManyPlacesError: it would be one too many.
        """
        self._places += 1
        if self._places > MAX_PLACES:
            raise TooManyPlacesError
        path = item.path(tag) if item is not None and tag is not None else ""
        finding = Finding(
            severity=severity, code=f"{self.prefix}-{rule}", message=message, tag=tag,
            path=path, source=source, edition=edition,
        )  # fmt: skip
        self.found.add(finding)
        return finding

    # -- Types ---------------------------------------------------------------------------

    def rows(self, rows: Sequence[Row], item: Item, source: str) -> None:
        """Judge the attributes *rows* of *item*."""
        for row in rows:
            for tag in _tags_of(row.tag, item):
                self._row(row, tag, item, source)

    def _row(self, row: Row, tag: int, item: Item, source: str) -> None:
        element = item.elements.get(tag)
        kind = row.type[0]
        is_needed = kind in "12"
        if is_needed and row.type.endswith("C"):
            is_needed = self._is_required(row, element, item, tag, source)
        if element is None:
            if is_needed:
                self._absent(row, tag, item, source)
            return
        if element.is_empty and kind == "1" and "1" in self.takes:
            # Of 1C whatever its condition is: where it is not met, it may not even be there.
            self.add(
                "error", f"TYPE{row.type}-EMPTY", f"is empty, and type {row.type}",
                item=item, tag=tag, source=source, edition=row.edition,
            )  # fmt: skip
            return
        self._values(row, element, item, tag, source)
        if element.items is None or tag in _JUDGED_ELSEWHERE:
            return
        for inner in element.items:
            if row.is_code:
                judge_coded_entry(self, inner, source)
            if row.rows:
                self.rows(row.rows, inner, source)

    def _is_required(
        self, row: Row, element: Element | None, item: Item, tag: int, source: str
    ) -> bool:
        if "C" not in self.takes:
            return False
        condition = row.condition
        outcome = None if condition is None else is_true(condition.required, item)
        if condition is None or outcome is None:
            if element is None:
                self.result.leave_open(item.path(tag), f"{source}, type {row.type}")
            return False
        if outcome:
            return True
        if element is not None and not self._may_be(condition, item):
            self.add(
                "warning", f"TYPE{row.type}-NOT-ALLOWED",
                f"is there though its condition is not met: {_why(condition, item)}",
                item=item, tag=tag, source=source, edition=row.edition,
            )  # fmt: skip
        return False

    @staticmethod
    def _may_be(condition: Condition, item: Item) -> bool:
        if condition.never is not None and is_true(condition.never, item):
            return False
        if condition.otherwise == "may":
            return True
        if isinstance(condition.otherwise, list):
            return is_true(condition.otherwise, item) is not False
        return False

    def _absent(self, row: Row, tag: int, item: Item, source: str) -> None:
        kind = row.type[0]
        place = (id(item), tag)
        before = self._missing.get(place)
        if kind not in self.takes or (before is not None and (kind == "2" or _is_error(before))):
            return
        if before is not None:
            self.found.withdraw(before)  # another module asks for more
        why = ""
        if row.type.endswith("C") and row.condition is not None:
            why = f": {condition_text(row.condition.required)}"
        severity: Severity = "error" if kind == "1" else "warning"
        self._missing[place] = self.add(
            severity, f"TYPE{row.type}-MISSING", f"is missing, and type {row.type}{why}",
            item=item, tag=tag, source=source, edition=row.edition,
        )  # fmt: skip

    # -- Values --------------------------------------------------------------------------

    def _values(self, row: Row, element: Element, item: Item, tag: int, source: str) -> None:
        for each in row.values if "V" in self.takes else ():
            key = (id(item), tag, id(each))
            if key in self._values_judged or not element.is_known or element.is_empty:
                continue
            self._values_judged.add(key)
            if each.when is not None and is_true(each.when, item) is not True:
                continue
            values = element.values
            if each.number:
                values = values[each.number - 1 : each.number]
            for place, value in enumerate(values, each.number or 1):
                if value and not _is_among(value, each.values):
                    self._other_value(each, place, len(element.values), item, tag, source, row)
                    break

    def _other_value(
        self, each: ValueList, place: int, count: int, item: Item, tag: int, source: str, row: Row
    ) -> None:
        which = f"value {place}" if count > 1 else "its value"
        allowed = ", ".join(sorted(each.values))
        if len(each.values) > _MOST_SHOWN:
            allowed = f"the {len(each.values)} that PS3.3 lists"
        what = "enumerated values" if each.is_enumerated else "defined terms"
        self.add(
            "error" if each.is_enumerated else "info",
            "ENUMERATED-VALUE" if each.is_enumerated else "DEFINED-TERM",
            f"{which} is none of the {what} {allowed}",
            item=item, tag=tag, source=source, edition=row.edition,
        )  # fmt: skip


def _why(condition: Condition, item: Item) -> str:
    """The condition because of which an attribute may not be there."""
    if condition.never is not None and is_true(condition.never, item):
        return condition_text(["not", condition.never])
    return condition_text(condition.required)


def _is_error(finding: Finding) -> bool:
    return finding.severity == "error"


def _is_among(value: str, values: frozenset[str]) -> bool:
    if value in values:
        return True
    # Numbers in other spellings: 1, 1.0, +1.
    if not value[-1:].isdigit():
        return False
    try:
        number = float(value)
    except ValueError:
        return False
    return any(_number(each) == number for each in values)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _tags_of(tag: int, item: Item) -> tuple[int, ...] | list[int]:
    """The tag of a row, or, of a repeating group, those that the item has."""
    group = tag >> 16
    if group not in _REPEATING_GROUPS:
        return (tag,)
    groups = {
        each >> 16
        for each in item.elements
        if group <= each >> 16 <= group + _LAST_REPETITION and not each >> 16 & 1
    }
    return [each << 16 | (tag & 0xFFFF) for each in sorted(groups)]


def condition_text(expression: list[object]) -> str:
    """A condition in words."""
    from isocenter.services.dicom.data_dictionary import keyword_for_tag

    kind, *rest = expression
    if kind == "false":
        return "by the standard"
    if kind == "unknown":
        return "what no data set says"
    if kind == "not":
        inner = rest[0]
        assert isinstance(inner, list)
        return f"not ({condition_text(inner)})"
    if kind in ("and", "or"):
        return f" {kind} ".join(
            f"({condition_text(each)})" if each[0] in ("and", "or") else condition_text(each)
            for each in rest
            if isinstance(each, list)
        )
    tag = int(str(rest[0]), 16)
    name = keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    if kind in ("present", "here"):
        return f"{name} is present"
    if kind == "first":
        return f"it is in the first item of {name}"
    if kind == "dimension":
        return f"{name} is a dimension index"
    if kind == "valued":
        return f"{name} has a value"
    if kind == "private":
        return f"{name} is the tag of a private element"
    if kind == "code":
        codes = rest[1]
        assert isinstance(codes, list)
        return f"{name} is {' or '.join(f'({value}, {scheme})' for value, scheme in codes)}"
    number, wanted = rest[1], rest[2]
    if number:
        name = f"value {number} of {name}"
    if kind == "greater":
        return f"{name} is greater than {float(str(wanted)):g}"
    assert isinstance(wanted, list)
    return f"{name} is {' or '.join(map(str, wanted))}"
