"""The flat fields of an order, as an entry and back; and what is no order."""

from __future__ import annotations

import pytest

from isocenter.engine.uid import is_safe_uid
from isocenter.services.service_classes.worklist.entry import (
    EntryKey,
    EntryState,
    InvalidEntryError,
)
from isocenter.services.service_classes.worklist.order_fields import (
    FIELDS,
    entry_fields,
    entry_of_fields,
    entry_of_order,
)
from services.service_classes.worklist.samples import entry, order


def test_each_field_becomes_its_attribute() -> None:
    data = entry().attributes.to_dataset()
    step = data.ScheduledProcedureStepSequence[0]
    assert (data.PatientName, data.PatientID, data.PatientSex) == ("DOE^JANE", "PAT1", "F")
    assert (step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime) == (
        "20261124",
        "093000",
    )
    assert step.ScheduledStationAETitle == "CT_01"
    code = step.ScheduledProtocolCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == (
        "CHEST1", "99ISO", "Chest with contrast",
    )  # fmt: skip
    # What nobody gave: of the order's own values, as the modality needs them.
    assert data.RequestedProcedureID == "A1"
    assert data.RequestedProcedureDescription == "CT CHEST"
    assert is_safe_uid(data.StudyInstanceUID)


def test_fields_come_back_as_they_went_in() -> None:
    back = entry_fields(entry())
    assert {name: back[name] for name in order()} == order()


@pytest.mark.parametrize(
    ("date", "time", "field"),
    [
        ("20261124", "09", "20261124090000"),
        ("20261124", "0930", "20261124093000"),
        ("2026.11.24", "09:30:15", "20261124093015"),
        ("20261124", "235960.5", "20261124235960.500000"),
    ],
)
def test_start_dates_and_times_of_dicom_can_be_read_again(date: str, time: str, field: str) -> None:
    step = "(0040,0100)[0]."
    given = entry(attributes={f"{step}(0040,0002)": date, f"{step}(0040,0003)": time})
    fields = entry_fields(given)
    assert fields["scheduled_datetime"] == field
    assert entry_fields(entry_of_order(fields, "x")[0]) == fields


def test_a_code_without_a_value_is_no_field() -> None:
    path = "ScheduledProcedureStepSequence[0].ScheduledProtocolCodeSequence[0]"
    given = entry(protocol_code="", attributes={f"{path}.CodeMeaning": "Chest"})
    assert "protocol_code" not in entry_fields(given)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"station_ae": ""}, "station_ae"),
        ({"scheduled_datetime": "20261124250000"}, "scheduled_datetime"),
        ({"sex": "female"}, "sex"),
    ],
)
def test_whoever_wrote_fields_hears_which(changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidEntryError, match=rf"\(field {field}\)$") as raised:
        entry_of_fields(order(**changes), "orders.json, entry 3")
    assert raised.value.tag


def test_the_study_of_an_order_is_always_the_same() -> None:
    assert entry().text(0x0020000D) == entry(patient_name="ROE^RICHARD").text(0x0020000D)
    assert entry().text(0x0020000D) != entry(2).text(0x0020000D)


def test_names_beyond_ascii_and_attributes_without_a_field() -> None:
    given = entry(patient_name="Müller^Jörg=山田", attributes={"PatientWeight": "70"})
    assert given.text(0x00100010) == "Müller^Jörg=山田"
    assert given.attributes.character_set == ("ISO_IR 192",)
    assert given.attributes.to_dataset().PatientWeight == 70


def test_the_state_that_an_order_names() -> None:
    assert entry_of_order(order(step_status="STARTED"), "x")[1] is EntryState.STARTED
    assert entry_of_order(order(), "x")[1] is EntryState.SCHEDULED


def test_what_a_list_says_can_be_read_again() -> None:
    listed = order(pk=3, created_at="2026", updated_at="2026", referring_phys_id="")
    assert entry_of_order(listed, "x")[0].key == EntryKey("SPS1", "A1")


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"station_ae": ""}, "(0040,0100)>(0040,0001) is missing"),
        ({"station_ae": "AN AE TITLE OF MORE THAN SIXTEEN"}, "(0040,0100)>(0040,0001) is not"),
        ({"patient_id": ""}, "(0010,0020) is missing"),
        ({"patient_id": "9" * 65}, "(0010,0020) is not"),
        ({"patient_name": ""}, "(0010,0010) is missing"),
        ({"step_id": ""}, "(0040,0100)>(0040,0009) is missing"),
        ({"step_id": "S" * 17}, "(0040,0100)>(0040,0009) is not"),
        ({"modality": "ct scan"}, "(0040,0100)>(0008,0060) is not"),
        ({"scheduled_datetime": "tomorrow"}, "scheduled_datetime is no"),
        ({"scheduled_datetime": "2026"}, "scheduled_datetime is no"),
        ({"scheduled_datetime": "20269924"}, "(0040,0100)>(0040,0002) is not"),
        ({"scheduled_datetime": "20261124096000"}, "(0040,0100)>(0040,0003) is not"),
        ({"scheduled_datetime": "20261124240000"}, "(0040,0100)>(0040,0003) is not"),
        ({"scheduled_datetime": "20261124093061"}, "(0040,0100)>(0040,0003) is not"),
        ({"birth_date": "29.02.1980"}, "(0010,0030) is not"),
        ({"sex": "female"}, "(0010,0040) is not"),
        ({"study_uid": "1.2.x"}, "(0020,000D) is not"),
        ({"accession_no": "A" * 17}, "(0008,0050) is not"),
        ({"step_status": "DONE"}, "step_status is none of"),
        ({"protocol_code": "a^b^c^d"}, "protocol_code is no"),
        ({"patient_nmae": "DOE^JANE"}, "'patient_nmae' is no field"),
        ({"patient_id": 7}, "patient_id has to be text"),
        ({"attributes": []}, "attributes has to be"),
        ({"attributes": {"PatientWeight": 70}}, "attributes has to be"),
        ({"attributes": {"NoSuchKeyword": "1"}}, "NoSuchKeyword"),
    ],
)
def test_a_fault_names_the_place_and_the_key_and_no_value(
    changes: dict[str, object], names: str
) -> None:
    with pytest.raises(InvalidEntryError) as raised:
        entry_of_order(order(**changes), "orders.json, entry 3")
    text = str(raised.value)
    assert text.startswith("orders.json, entry 3: ")
    assert names in text
    for value in ("DOE", "PAT1", "tomorrow", "female", "1.2.x"):
        assert value not in text


def test_every_path_is_one_of_the_dictionary() -> None:
    assert len(set(FIELDS.values())) == len(FIELDS)
    whole = dict.fromkeys(FIELDS, "1") | {
        "station_ae": "A", "modality": "CT", "birth_date": "19800101", "sex": "M",
        "study_uid": "1.2", "scheduled_datetime": "20260101",
    }  # fmt: skip
    assert set(FIELDS) <= set(entry_fields(entry_of_order(whole, "x")[0]))
