"""PS3.4 Table F.7.2-1, attribute by attribute."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.mpps.requirements import (
    Fault,
    Requirement,
    RequirementColumn,
    Violation,
    requirements,
    violations,
)
from services.service_classes.mpps.samples import begun, ended

#: Type 1 attributes outside of sequences, typed in from the standard a second time.
TYPE_1_AT_CREATION = {
    0x00400270, 0x00400253, 0x00400241, 0x00400244, 0x00400245, 0x00400252, 0x00080060,
}  # fmt: skip
TYPE_2_AT_CREATION = {
    0x00100010, 0x00100020, 0x00100030, 0x00100040, 0x00081120, 0x00400242, 0x00400243,
    0x00400254, 0x00400255, 0x00081032, 0x00400250, 0x00400251, 0x00200010, 0x00400260,
    0x00400340,
}  # fmt: skip
MAY_BE_SET = {
    0x00080005, 0x00400252, 0x00400254, 0x00400255, 0x00081032, 0x00401012, 0x00400250,
    0x00400251, 0x00400281, 0x00400260, 0x00400340,
}  # fmt: skip
TYPE_1_AT_THE_END = {0x00400250, 0x00400251, 0x00400340}


def walk(rows: tuple[Requirement, ...], path: tuple[int, ...] = ()) -> Iterator[Requirement]:
    for row in rows:
        yield row
        yield from walk(row.within, (*path, row.tag))


def check(dataset: Dataset, moment: RequirementColumn, *, type_2: bool = False) -> list[Violation]:
    elements = AttributeList.from_dataset(dataset).elements
    return violations(elements, moment, type_2=type_2)


def test_the_table_says_what_the_standard_says() -> None:
    rows = requirements()
    assert {row.tag for row in rows if row.create == "1"} == TYPE_1_AT_CREATION
    assert {row.tag for row in rows if row.create == "2"} == TYPE_2_AT_CREATION
    assert {row.tag for row in rows if row.set != "-"} == MAY_BE_SET
    assert {row.tag for row in rows if row.final == "1"} == TYPE_1_AT_THE_END
    assert all(row.condition is not None for row in walk(rows) if row.create == "1C")


def test_a_good_step_has_no_violation_at_any_moment() -> None:
    step = begun()
    assert check(step, RequirementColumn.CREATE, type_2=True) == []
    assert check(ended(), RequirementColumn.SET, type_2=True) == []
    step.update(ended())
    assert check(step, RequirementColumn.FINAL, type_2=True) == []


@pytest.mark.parametrize("tag", sorted(TYPE_1_AT_CREATION), ids=hex)
def test_type_1_has_to_be_there_with_a_value(tag: int) -> None:
    without, empty = begun(), begun()
    del without[tag]
    empty[tag].value = [] if empty[tag].VR == "SQ" else ""
    assert check(without, RequirementColumn.CREATE) == [Violation((tag,), Fault.MISSING)]
    assert check(empty, RequirementColumn.CREATE) == [Violation((tag,), Fault.EMPTY)]


@pytest.mark.parametrize("tag", sorted(TYPE_2_AT_CREATION), ids=hex)
def test_type_2_may_be_left_out_unless_one_is_strict(tag: int) -> None:
    step = begun()
    del step[tag]
    assert check(step, RequirementColumn.CREATE) == []
    assert check(step, RequirementColumn.CREATE, type_2=True) == [Violation((tag,), Fault.MISSING)]


@pytest.mark.parametrize("tag", sorted(TYPE_1_AT_THE_END), ids=hex)
def test_the_end_needs_what_the_beginning_did_not(tag: int) -> None:
    step = begun()
    assert check(step, RequirementColumn.CREATE) == []
    step.update(ended())
    step[tag].value = [] if step[tag].VR == "SQ" else ""
    assert check(step, RequirementColumn.FINAL) == [Violation((tag,), Fault.EMPTY)]
    assert check(ended(), RequirementColumn.SET) == []
    # Until then it may be empty again.
    emptied = ended()
    emptied[tag].value = step[tag].value
    assert check(emptied, RequirementColumn.SET) == []


@pytest.mark.parametrize("keyword", ["SeriesInstanceUID", "ProtocolName"])
def test_each_series_is_looked_at(keyword: str) -> None:
    changes = ended()
    second = copy.deepcopy(changes.PerformedSeriesSequence[0])
    changes.PerformedSeriesSequence.append(second)
    delattr(second, keyword)
    path = (0x00400340, int(Tag(keyword)))
    for moment in (RequirementColumn.SET, RequirementColumn.FINAL, RequirementColumn.CREATE):
        found = [each for each in check(changes, moment) if each.path[0] == 0x00400340]
        assert found == [Violation(path, Fault.MISSING)]


def test_references_need_both_uids() -> None:
    changes = ended()
    reference = changes.PerformedSeriesSequence[0].ReferencedImageSequence[1]
    reference.ReferencedSOPClassUID = ""
    assert check(changes, RequirementColumn.SET) == [
        Violation((0x00400340, 0x00081140, 0x00081150), Fault.EMPTY)
    ]


def code(**values: str) -> Dataset:
    step = begun()
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    step.ScheduledStepAttributesSequence[0].ScheduledProtocolCodeSequence = [item]
    return step


def test_conditions_of_codes() -> None:
    at = (0x00400270, 0x00400008)
    whole = {"CodeValue": "1", "CodingSchemeDesignator": "L", "CodeMeaning": "M"}
    assert check(code(**whole), RequirementColumn.CREATE) == []
    no_value = check(code(CodingSchemeDesignator="L", CodeMeaning="M"), RequirementColumn.CREATE)
    assert no_value == [Violation((*at, 0x00080100), Fault.MISSING)]
    # A long code value is one, too; an URN needs no scheme.
    long = code(LongCodeValue="1", CodingSchemeDesignator="L", CodeMeaning="M")
    assert check(long, RequirementColumn.CREATE) == []
    assert check(code(URNCodeValue="urn:x", CodeMeaning="M"), RequirementColumn.CREATE) == []
    no_scheme = check(code(LongCodeValue="1", CodeMeaning="M"), RequirementColumn.CREATE)
    assert no_scheme == [Violation((*at, 0x00080102), Fault.MISSING)]
    no_meaning = check(code(CodeValue="1", CodingSchemeDesignator="L"), RequirementColumn.CREATE)
    assert no_meaning == [Violation((*at, 0x00080104), Fault.MISSING)]


def test_meaning_is_optional_where_the_standard_says_so() -> None:
    changes = Dataset()
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = "1", "L"
    changes.PerformedProtocolCodeSequence = [item]
    assert check(changes, RequirementColumn.SET) == []
    changes = Dataset()
    changes.PerformedProcedureStepDiscontinuationReasonCodeSequence = [item]
    assert check(changes, RequirementColumn.SET) == [
        Violation((0x00400281, 0x00080104), Fault.MISSING)
    ]


def test_issuers_are_local_or_universal() -> None:
    step = begun()
    issuer = Dataset()
    step.IssuerOfAdmissionIDSequence = [issuer]
    at = 0x00380014
    assert check(step, RequirementColumn.CREATE) == [
        Violation((at, 0x00400031), Fault.MISSING),
        Violation((at, 0x00400032), Fault.MISSING),
    ]
    issuer.UniversalEntityID = "x"
    assert check(step, RequirementColumn.CREATE) == [Violation((at, 0x00400033), Fault.MISSING)]
    issuer.UniversalEntityIDType = "DNS"
    assert check(step, RequirementColumn.CREATE) == []


def test_what_may_not_be_set() -> None:
    found = check(begun(), RequirementColumn.SET)
    named = {violation.path[0] for violation in found if violation.fault is Fault.NOT_ALLOWED}
    assert named == {0x00400270} | (TYPE_1_AT_CREATION | TYPE_2_AT_CREATION) - MAY_BE_SET
    assert str(found[0]) == "(0040,0270) not allowed in N-SET"
