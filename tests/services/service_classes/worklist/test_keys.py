"""What an identifier of the worklist asks for, against entries; and what is refused."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.query_retrieve.matching_keys import IdentifierError
from isocenter.services.service_classes.worklist.query_keys import Keys, parse_keys
from services.service_classes.worklist.samples import entry

STEP = "(0040,0100)[0]."


def keys_of(*keys: tuple[str, str], character_set: str = "") -> Keys:
    given = [("(0008,0005)", character_set)] if character_set else []
    return parse_keys(
        build_identifier([*given, *keys], None, IMPLICIT_VR_LITTLE_ENDIAN),
        IMPLICIT_VR_LITTLE_ENDIAN,
    )


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([], True),
        ([("PatientName", "")], True),
        ([("PatientName", "*")], True),
        ([("PatientName", "doe*")], True),
        ([("PatientName", "ROE*")], False),
        ([("PatientID", "PAT1")], True),
        ([("PatientID", "PAT?")], True),
        ([("PatientID", "PAT2\\PAT1")], True),
        ([("PatientID", "PAT2")], False),
        ([("(0040,0100)", "")], True),
        ([(f"{STEP}ScheduledStationAETitle", "CT_01")], True),
        ([(f"{STEP}ScheduledStationAETitle", "MR_01")], False),
        ([(f"{STEP}Modality", "CT"), (f"{STEP}ScheduledStationAETitle", "MR_01")], False),
        ([(f"{STEP}Modality", "MR\\CT")], True),
        ([(f"{STEP}ScheduledProcedureStepStartDate", "20261124")], True),
        ([(f"{STEP}ScheduledProcedureStepStartDate", "20261125")], False),
        ([(f"{STEP}ScheduledProcedureStepStartDate", "20261124-")], True),
        ([(f"{STEP}ScheduledProcedureStepStartDate", "-20261123")], False),
        # Date and time together are one range (Table K.6-1): until 0900 of the 25th.
        (
            [
                (f"{STEP}ScheduledProcedureStepStartDate", "20261123-20261125"),
                (f"{STEP}ScheduledProcedureStepStartTime", "1000-0900"),
            ],
            True,
        ),
        (
            [
                (f"{STEP}ScheduledProcedureStepStartDate", "20261124-20261125"),
                (f"{STEP}ScheduledProcedureStepStartTime", "1000-1200"),
            ],
            False,
        ),
        # Both single values: each by itself.
        (
            [
                (f"{STEP}ScheduledProcedureStepStartDate", "20261124"),
                (f"{STEP}ScheduledProcedureStepStartTime", "093000"),
            ],
            True,
        ),
        ([(f"{STEP}ScheduledProtocolCodeSequence[0].CodeValue", "CHEST1")], True),
        ([(f"{STEP}ScheduledProtocolCodeSequence[0].CodeValue", "HEAD1")], False),
        # Nested universal keys must not turn away entries without the sequence.
        ([("ReferencedStudySequence[0].ReferencedSOPInstanceUID", "")], True),
        ([("ReferencedStudySequence[0].ReferencedSOPInstanceUID", "1.2")], False),
        ([("PatientBirthDate", "19800229")], True),
        ([("AccessionNumber", '""')], False),
        ([("PatientComments", '""')], True),
    ],
)
def test_matching(keys: list[tuple[str, str]], expected: bool) -> None:
    assert keys_of(*keys).matches(entry().attributes) is expected


def test_several_stations_one_of_them_suffices() -> None:
    planned = entry(station_ae="CT_01\\CT_02").attributes
    assert keys_of((f"{STEP}ScheduledStationAETitle", "CT_02")).matches(planned)
    assert not keys_of((f"{STEP}ScheduledStationAETitle", "CT_0")).matches(planned)


def test_the_answer_has_what_was_asked_for_and_nothing_else() -> None:
    asked = keys_of(
        ("PatientName", ""),
        ("PatientComments", ""),
        ("ReferencedStudySequence", ""),
        (f"{STEP}Modality", "CT"),
        (f"{STEP}ScheduledProcedureStepLocation", ""),
    )
    answer = asked.response(entry().attributes).to_dataset()
    assert [element.keyword for element in answer] == [
        "PatientName", "PatientComments", "ScheduledProcedureStepSequence",
    ] or [element.keyword for element in answer] == [
        "ReferencedStudySequence", "PatientName", "PatientComments",
        "ScheduledProcedureStepSequence",
    ]  # fmt: skip
    assert "ReferencedStudySequence" in answer
    assert len(answer.ReferencedStudySequence) == 0
    assert answer.PatientComments in ("", None)
    (step,) = answer.ScheduledProcedureStepSequence
    assert {element.keyword for element in step} == {"Modality", "ScheduledProcedureStepLocation"}


def test_an_empty_sequence_asks_for_all_of_it() -> None:
    (step,) = keys_of(("(0040,0100)", "")).response(entry().attributes).items(0x00400100)
    assert step == entry().step


@pytest.mark.parametrize(
    ("asked_in", "expected"),
    [("", ("ISO_IR 192",)), ("ISO_IR 100", ("ISO_IR 100",)), ("ISO_IR 144", ("ISO_IR 192",))],
)
def test_answers_are_in_the_character_set_of_the_question_where_it_suffices(
    asked_in: str, expected: tuple[str, ...]
) -> None:
    keys = keys_of(("PatientName", ""), (f"{STEP}Modality", ""), character_set=asked_in)
    answer = keys.response(entry(patient_name="MÜLLER^JÖRG").attributes)
    assert answer.character_set == expected
    assert answer.text(0x00100010) == "MÜLLER^JÖRG"


def test_a_name_is_found_in_another_character_set() -> None:
    keys = keys_of(("PatientName", "M?LLER*"), character_set="ISO_IR 100")
    assert keys.matches(entry(patient_name="MÜLLER^JÖRG").attributes)
    keys = keys_of(("PatientName", "MÜLLER^JÖRG"), character_set="ISO_IR 100")
    assert keys.matches(entry(patient_name="Müller^Jörg").attributes)


def encoded(data: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, data)
    value = buffer.getvalue()
    assert isinstance(value, bytes)
    return value


def test_identifiers_that_are_refused() -> None:
    two = Dataset()
    two.ScheduledProcedureStepSequence = Sequence([Dataset(), Dataset()])
    for data_set, status in (
        (encoded(two), 0xA900),
        (b"\x10\x00\x10\x00PN\xff", 0xC000),
        (build_identifier([("StudyInstanceUID", "1.*")], None, EXPLICIT_VR_LITTLE_ENDIAN), 0xA900),
        (
            build_identifier([("PatientID", "*1" * 20)], None, EXPLICIT_VR_LITTLE_ENDIAN),
            0xA900,
        ),
        (
            build_identifier(
                [(f"{STEP}ScheduledProcedureStepStartDate", "soon-later")],
                None,
                EXPLICIT_VR_LITTLE_ENDIAN,
            ),
            0xA900,
        ),
    ):
        with pytest.raises(IdentifierError) as raised:
            parse_keys(data_set, EXPLICIT_VR_LITTLE_ENDIAN)
        assert raised.value.status == status


def test_what_cannot_be_compared_only_asks() -> None:
    data = Dataset()
    data.add_new(0x00091001, "OB", b"\1\2")
    data.add_new(0x00091002, "LO", "x")
    keys = parse_keys(encoded(data), EXPLICIT_VR_LITTLE_ENDIAN)
    assert keys.match(0x00091001) is None
    assert keys.unsupported == (0x00091001,)
    assert not keys.matches(entry().attributes)  # the private LO is a key like any other
    answer = keys.response(AttributeList({}))
    assert set(answer.elements) == {0x00091001, 0x00091002}


@pytest.mark.parametrize(
    ("key", "unsupported"),
    [
        ((f"{STEP}ScheduledProcedureStepStartDateTime", "20261124-20261125"), False),
        ((f"{STEP}ScheduledProcedureStepStartDateTime", "-20261125"), False),
        ((f"{STEP}ScheduledProcedureStepStartDateTime", "20261124093000"), False),
        ((f"{STEP}ScheduledProcedureStepStartDateTime", ""), False),
        (("(0008,0201)", "+0100"), True),
        (("(0008,0052)", "STUDY"), True),
        (("(0008,0052)", ""), False),
        (("PatientName", "DOE*"), False),
    ],
)
def test_keys_that_are_not_matched_are_told(key: tuple[str, str], unsupported: bool) -> None:
    keys = keys_of(key)
    assert bool(keys.unsupported) is unsupported
    if unsupported:
        assert keys.matches(entry().attributes)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("20261124-20261125", True),
        ("-20261125", True),
        ("20261124100000+0100-", False),
        ("-202611240829+0000", False),
        ("20261124093000-20261124093000", True),
    ],
)
def test_ranges_of_date_times(value: str, found: bool) -> None:
    name = f"{STEP}ScheduledProcedureStepModificationDateTime"
    keys = keys_of((name, value))
    assert keys.unsupported == ()
    data = Dataset()
    step = Dataset()
    step.ScheduledProcedureStepModificationDateTime = "20261124093000.000000"
    data.ScheduledProcedureStepSequence = Sequence([step])
    attributes = AttributeList.read(encoded(data), EXPLICIT_VR_LITTLE_ENDIAN)
    assert keys.matches(attributes) is found


@pytest.mark.parametrize("value", ["\\", "*\\", " \\ "])
@pytest.mark.parametrize(
    "name", ["PatientID", "PatientName", f"{STEP}Modality", "StudyInstanceUID"]
)
def test_a_list_of_nothing_is_refused(name: str, value: str) -> None:
    with pytest.raises(IdentifierError) as raised:
        keys_of((name, value))
    assert raised.value.status == 0xA900
