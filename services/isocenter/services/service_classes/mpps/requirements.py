"""Required attributes of a performed procedure step, by PS3.4 Table F.7.2-1.

The columns are those of the standard.  ``N-CREATE`` and ``final`` are the type of the
attribute (PS3.4 5.4); of ``N-SET`` the type for the SCU, which is what a request is judged by,
and behind the stroke that for the SCP; ``-``: it may not be set any more.
A ``C`` behind a type has its condition in the last column.  One ``>`` for each sequence around.

Attributes that are optional in every column are not listed: they are kept as they come.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import Enum
from functools import cache
from typing import Final

from isocenter.engine.dataset import Element
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.attribute_list import items_of

# fmt: off
TABLE: Final = """
attribute                                       tag        N-CREATE  N-SET  final  condition
Specific Character Set                          0008,0005  3         3/3
Scheduled Step Attributes Sequence              0040,0270  1         -
> Study Instance UID                            0020,000D  1         -
> Referenced Study Sequence                     0008,1110  2         -
>> Referenced SOP Class UID                     0008,1150  1         -
>> Referenced SOP Instance UID                  0008,1155  1         -
> Accession Number                              0008,0050  2         -
> Issuer of Accession Number Sequence           0008,0051  3         -
>> (issuer)
> Placer Order Number/Imaging Service Request   0040,2016  3         -
> Order Placer Identifier Sequence              0040,0026  3         -
>> (issuer)
> Filler Order Number/Imaging Service Request   0040,2017  3         -
> Order Filler Identifier Sequence              0040,0027  3         -
>> (issuer)
> Requested Procedure ID                        0040,1001  2         -
> Requested Procedure Code Sequence             0032,1064  3         -
>> (code)
> Requested Procedure Description               0032,1060  2         -
> Scheduled Procedure Step ID                   0040,0009  2         -
> Scheduled Procedure Step Description          0040,0007  2         -
> Scheduled Protocol Code Sequence              0040,0008  2         -
>> (code)
Patient's Name                                  0010,0010  2         -
Patient ID                                      0010,0020  2         -
Issuer of Patient ID                            0010,0021  3         -
Issuer of Patient ID Qualifiers Sequence        0010,0024  3         -
Other Patient IDs Sequence                      0010,1002  3         -
Patient's Birth Date                            0010,0030  2         -
Patient's Sex                                   0010,0040  2         -
Referenced Patient Sequence                     0008,1120  2         -
> Referenced SOP Class UID                      0008,1150  1         -
> Referenced SOP Instance UID                   0008,1155  1         -
Admission ID                                    0038,0010  3         -
Issuer of Admission ID Sequence                 0038,0014  3         -
> (issuer)
Service Episode ID                              0038,0060  3         -
Issuer of Service Episode ID Sequence           0038,0064  3         -
> (issuer)
Service Episode Description                     0038,0062  3         -
Performed Procedure Step ID                     0040,0253  1         -
Performed Station AE Title                      0040,0241  1         -
Performed Station Name                          0040,0242  2         -
Performed Location                              0040,0243  2         -
Performed Procedure Step Start Date             0040,0244  1         -
Performed Procedure Step Start Time             0040,0245  1         -
Performed Procedure Step Status                 0040,0252  1         3/1
Performed Procedure Step Description            0040,0254  2         3/2
Performed Procedure Type Description            0040,0255  2         3/2
Procedure Code Sequence                         0008,1032  2         3/2
> (code, meaning optional)
Reason for Performed Procedure Code Sequence    0040,1012  3         3/3
> (code)
Performed Procedure Step End Date               0040,0250  2         3/1    1
Performed Procedure Step End Time               0040,0251  2         3/1    1
Discontinuation Reason Code Sequence            0040,0281  3         3/3
> (code)
Modality                                        0008,0060  1         -
Study ID                                        0020,0010  2         -
Performed Protocol Code Sequence                0040,0260  2         3/2
> (code, meaning optional)
Performed Series Sequence                       0040,0340  2         3/1    1
> Performing Physician's Name                   0008,1050  2         2/2    2
> Protocol Name                                 0018,1030  1         1/1    1
> Operators' Name                               0008,1070  2         2/2    2
> Series Instance UID                           0020,000E  1         1/1    1
> Series Description                            0008,103E  2         2/2    2
> Retrieve AE Title                             0008,0054  2         2/2    2
> Referenced Image Sequence                     0008,1140  2         2/2
>> Referenced SOP Class UID                     0008,1150  1         1/1
>> Referenced SOP Instance UID                  0008,1155  1         1/1
> Ref. Non-Image Composite SOP Instance Sequence 0040,0220  2         2/2
>> Referenced SOP Class UID                     0008,1150  1         1/1
>> Referenced SOP Instance UID                  0008,1155  1         1/1
"""

#: Tables F.7.2-1a to F.7.2-1f, and the issuers, which are written out each time there.
MACROS: Final = {
    "code": """
Code Value                                      0008,0100  1C        1C/1C         without 0008,0119 0008,0120
Coding Scheme Designator                        0008,0102  1C        1C/1C         with 0008,0100 0008,0119
Code Meaning                                    0008,0104  1         1/1
""",  # noqa: E501
    "code, meaning optional": """
Code Value                                      0008,0100  1C        1C/1C         without 0008,0119 0008,0120
Coding Scheme Designator                        0008,0102  1C        1C/1C         with 0008,0100 0008,0119
""",  # noqa: E501
    "issuer": """
Local Namespace Entity ID                       0040,0031  1C        -             without 0040,0032
Universal Entity ID                             0040,0032  1C        -             without 0040,0031
Universal Entity ID Type                        0040,0033  1C        -             with 0040,0032
""",
}
# fmt: on


class RequirementColumn(Enum):
    """When a step is looked at: a column of the table."""

    CREATE = "N-CREATE"
    SET = "N-SET"
    FINAL = "final"


@dataclass(frozen=True, slots=True)
class Condition:
    """Of a type 1C attribute: needed when one of *tags* is there (*present*), or when none is."""

    present: bool
    tags: tuple[int, ...]

    def holds(self, item: Mapping[int, Element]) -> bool:
        """Whether the attribute is needed in *item*."""
        return any(tag in item for tag in self.tags) is self.present


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A row of the table: an attribute, and what is in it when it is a sequence.

    Attributes:
        create, final: its type, "" for a column that is empty.
        set: its type for the SCU of N-SET; "-": it may not be set.
    """

    name: str
    tag: int
    create: str
    set: str
    final: str
    condition: Condition | None
    within: tuple[Requirement, ...] = ()

    def type_at(self, moment: RequirementColumn, *, is_nested: bool) -> str:
        """The type that counts: of N-SET the SCU's, and at the top all is optional."""
        match moment:
            case RequirementColumn.CREATE:
                return self.create
            case RequirementColumn.SET:
                return self.set if is_nested else "3"
            case RequirementColumn.FINAL:
                return self.final or (self.set if is_nested else "3")


class Fault(Enum):
    """What may be wrong with an attribute."""

    MISSING = "missing"
    EMPTY = "empty"
    NO_SEQUENCE = "no sequence"
    NOT_ALLOWED = "not allowed in N-SET"


@dataclass(frozen=True, slots=True)
class Violation:
    """An attribute that breaks the table; in *path* are the sequences around it, then itself."""

    path: tuple[int, ...]
    fault: Fault

    def __str__(self) -> str:
        return f"{'>'.join(map(tag_text, self.path))} {self.fault.value}"


_HEAD: Final = TABLE.split("\n")[1]
_ROW: Final = re.compile(
    r"(?P<depth>>*) ?(?P<name>.*?) +(?P<tag>[0-9A-F]{4},[0-9A-F]{4})  (?P<create>\S+) +(?P<set>\S+)"
    r"(?: +(?P<final>[123]))?(?: +(?P<word>with|without) (?P<tags>[0-9A-F, ]+))?"
)
_MACRO: Final = re.compile(r"(?P<depth>>*) ?\((?P<name>[^)]+)\)")


@cache
def requirements() -> tuple[Requirement, ...]:
    """The rows of `TABLE` without a sequence around them; their items' rows are in them."""
    return _tree(list(_rows(TABLE, 0)), 0)


def _rows(table: str, depth: int) -> Iterator[tuple[int, Requirement]]:
    for line in table.split("\n"):
        if not line or line == _HEAD:
            continue
        macro = _MACRO.fullmatch(line)
        if macro is not None:
            yield from _rows(MACROS[macro["name"]], depth + len(macro["depth"]))
            continue
        row = _ROW.fullmatch(line)
        assert row is not None, line
        condition = None
        if row["word"]:
            condition = Condition(row["word"] == "with", tuple(map(_tag, row["tags"].split())))
        yield (
            depth + len(row["depth"]),
            Requirement(
                name=row["name"],
                tag=_tag(row["tag"]),
                create=row["create"],
                set=row["set"].partition("/")[0],
                final=row["final"] or "",
                condition=condition,
            ),
        )


def _tag(text: str) -> int:
    return int(text.replace(",", ""), 16)


def _tree(rows: list[tuple[int, Requirement]], depth: int) -> tuple[Requirement, ...]:
    found: list[Requirement] = []
    position = 0
    while position < len(rows):
        _, row = rows[position]
        end = position + 1
        while end < len(rows) and rows[end][0] > depth:
            end += 1
        found.append(replace(row, within=_tree(rows[position + 1 : end], depth + 1)))
        position = end
    return tuple(found)


def violations(
    attributes: Mapping[int, Element], moment: RequirementColumn, *, type_2: bool = False
) -> list[Violation]:
    """What of *attributes* breaks the table at *moment*, in the order of the table.

    Args:
        type_2: name type 2 attributes that are missing, too; many modalities leave out what
            they would send empty.
    """
    return list(_violations(attributes, moment, type_2, requirements(), ()))


def _violations(
    item: Mapping[int, Element],
    moment: RequirementColumn,
    type_2: bool,
    rows: tuple[Requirement, ...],
    path: tuple[int, ...],
) -> Iterator[Violation]:
    for row in rows:
        element = item.get(row.tag)
        here = (*path, row.tag)
        if moment is RequirementColumn.SET and not path and row.set == "-":
            if element is not None:
                yield Violation(here, Fault.NOT_ALLOWED)
            continue
        kind = row.type_at(moment, is_nested=bool(path))
        if kind == "1C":
            assert row.condition is not None
            kind = "1" if row.condition.holds(item) else "3"
        if element is None:
            if kind == "1" or (kind == "2" and type_2):
                yield Violation(here, Fault.MISSING)
            continue
        if _is_empty(element):
            if kind == "1":
                yield Violation(here, Fault.EMPTY)
            continue
        if row.within:
            if isinstance(element.value, bytes):
                yield Violation(here, Fault.NO_SEQUENCE)
                continue
            for each in items_of(item, row.tag):
                yield from _violations(each, moment, type_2, row.within, here)


def _is_empty(element: Element) -> bool:
    return not (element.value.strip(b" \0") if isinstance(element.value, bytes) else element.value)
