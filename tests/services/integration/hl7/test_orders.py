"""Which attributes the fields of an order become, and which fields are faults."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from isocenter.services.integration.hl7.errors import Hl7Error
from isocenter.services.integration.hl7.message import Segment, read_message
from isocenter.services.integration.hl7.orders import (
    Control,
    Order,
    check_header,
    read_orders,
)
from isocenter.services.integration.hl7.procedure_steps import MOST_STEPS
from isocenter.services.integration.hl7.step_fields import OrderRules
from isocenter.services.service_classes.worklist.entry import Entry, EntryState
from isocenter.services.service_classes.worklist.order_fields import entry_fields
from services.integration.hl7.samples import OMI, ORM, changed, without

RULES = OrderRules()


def orders_of(text: str, rules: OrderRules = RULES) -> list[Order]:
    message = read_message(text.encode(), "UNICODE UTF-8")
    check_header(message, rules)
    return read_orders(message, rules)


def entry_of(text: str, rules: OrderRules = RULES) -> Entry:
    (order,) = orders_of(text, rules)
    assert order.entry is not None
    return order.entry


def fields_of(text: str, rules: OrderRules = RULES) -> dict[str, str]:
    return entry_fields(entry_of(text, rules))


def fault_of(text: str, rules: OrderRules = RULES) -> Hl7Error:
    with pytest.raises(Hl7Error) as caught:
        orders_of(text, rules)
    return caught.value


def test_every_field_of_an_ORM() -> None:
    assert fields_of(ORM) == {
        "accession_no": "A1001",
        "patient_name": "Muster^Erika^Anna^Dr^Jr PhD",
        "patient_id": "PAT4711",
        "issuer_of_patient_id": "HOSPITAL",
        "birth_date": "19700131",
        "sex": "F",
        "pregnancy_status": "3",
        "patient_weight": "70.5",
        "medical_alerts": "Pacemaker",
        "allergies": "Penicillin\\Latex",
        "study_uid": "1.2.276.0.99.4711",
        "requesting_phys": "Overby^Otto^^Dr",
        "requesting_service": "Radiology",
        "requested_procedure_desc": "CT thorax",
        "admission_id": "V100",
        "patient_location": "WARD3 12 A",
        "patient_state": "Walks",
        "modality": "CT",
        "station_ae": "CT_01",
        "scheduled_datetime": "20261124093000",
        "performing_phys": "Tech^Tina",
        "procedure_desc": "Chest with contrast",
        "step_id": "SPS1",
        "requested_proc_id": "RP1",
        "reason": "Cough for weeks",
        "priority": "STAT",
        "comments": "Please call before 9 & after 10",
        "placer_order_no": "PLC1",
        "filler_order_no": "FIL1",
        "protocol_code": "P1^L^Chest with contrast",
        "requested_procedure_code": "71260^CPT^CT thorax",
    }
    data = entry_of(ORM).attributes.to_dataset()
    assert float(data.PatientSize) == 1.72
    (step,) = data.ScheduledProcedureStepSequence
    (protocol,) = step.ScheduledProtocolCodeSequence
    assert (protocol.CodeValue, protocol.CodingSchemeDesignator) == ("P1", "L")
    assert protocol.CodeMeaning == "Chest with contrast"
    (procedure,) = data.RequestedProcedureCodeSequence
    assert (procedure.CodeValue, procedure.CodingSchemeDesignator) == ("71260", "CPT")


def test_every_step_of_an_OMI() -> None:
    first, second = orders_of(OMI)
    assert first.entry is not None
    assert second.entry is not None
    fields, others = entry_fields(first.entry), entry_fields(second.entry)
    assert fields == {
        "accession_no": "A1002",
        "patient_name": "Müller^Jürgen",
        "patient_id": "PAT4712",
        "issuer_of_patient_id": "HOSPITAL",
        "birth_date": "19651224",
        "sex": "M",
        "referring_phys": "Weiß^Wanda",
        "study_uid": "1.2.276.0.99.4712",
        "requested_procedure_desc": "MR head",
        "modality": "MR",
        "station_ae": "MR_01",
        "station_name": "MAGNET1",
        "location": "Room 2",
        "scheduled_datetime": "20261124101500",
        "procedure_desc": "Head native",
        "step_id": "SPS2",
        "requested_proc_id": "RP2",
        "priority": "ROUTINE",
        "placer_order_no": "PLC2",
        "filler_order_no": "FIL2",
        "protocol_code": "MRH1^L^Head native",
        "requested_procedure_code": "MRHE^L^MR head",
    }
    assert (others["step_id"], others["procedure_desc"]) == ("SPS3", "Head contrast")
    assert others["study_uid"] == fields["study_uid"]


def test_OMG_is_read_like_ORM() -> None:
    assert fields_of(ORM.replace("ORM^O01", "OMG^O19")) == fields_of(ORM)


def test_one_study_for_the_steps_of_a_requested_procedure() -> None:
    # One ZDS at the end counts for both; without any, the same UID is made for both.
    lines = [line for line in ORM.split("\r") if line]
    pair = [line.replace("SPS1", "SPS9") for line in lines if line[:3] in ("ORC", "OBR")]
    head = [line for line in lines if line[:3] != "ZDS"]
    with_uid = "\r".join([*head, *pair, lines[-1], ""])
    assert {order.entry.text(0x0020000D) for order in orders_of(with_uid) if order.entry} == {
        "1.2.276.0.99.4711"
    }
    made = {
        order.entry.text(0x0020000D)
        for order in orders_of("\r".join([*head, *pair, ""]))
        if order.entry
    }
    assert len(made) == 1
    assert made == {fields_of(without(ORM, "ZDS"))["study_uid"]}
    assert made != {fields_of(changed(without(ORM, "ZDS"), "OBR", 19, "RP2"))["study_uid"]}


def test_each_step_keeps_the_study_of_its_own_ZDS() -> None:
    pair = "".join(f"{line}\r" for line in ORM.split("\r") if line[:3] in ("ORC", "OBR"))
    text = ORM + pair.replace("SPS1", "SPS9") + "ZDS|1.2.3^RIS\r"
    studies = [order.entry.text(0x0020000D) for order in orders_of(text) if order.entry]
    assert studies == ["1.2.276.0.99.4711", "1.2.3"]


def test_the_steps_of_a_message_are_bounded() -> None:
    obr = next(line for line in ORM.split("\r") if line[:3] == "OBR")
    more = [obr.replace("SPS1", f"S{number}") + "\r" for number in range(MOST_STEPS)]
    assert len(orders_of(ORM + "".join(more[: MOST_STEPS - 2]))) == MOST_STEPS - 1
    assert "more than" in str(fault_of(ORM + "".join(more)))


def test_fallbacks_of_identifiers() -> None:
    text = without(ORM, "ZDS")
    for field in (18, 19, 20):
        text = changed(text, "OBR", field, "")
    fields = fields_of(text)
    assert fields["accession_no"] == "FIL1"
    assert fields["step_id"] == fields["requested_proc_id"] == "FIL1"
    assert fields["study_uid"].startswith("2.25.")
    assert fields_of(changed(text, "OBR", 19, "RP"))["step_id"] == "RP"


def test_names_in_three_representations() -> None:
    name = "Yamada^Tarou^^^^^L^A~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P~Alias^X^^^^^A^A"
    assert fields_of(changed(ORM, "PID", 5, name))["patient_name"] == (
        "Yamada^Tarou=山田^太郎=やまだ^たろう"
    )


def test_separators_of_DICOM_in_values_are_spaces() -> None:
    fields = fields_of(changed(ORM, "PID", 5, "A\\S\\B=C\\E\\D^E"))
    assert fields["patient_name"] == "A B C D^E"


@pytest.mark.parametrize(
    ("code", "value", "unit", "keyword", "attribute"),
    [
        ("29463-7", "70500", "g", "PatientWeight", 70.5),
        ("3141-9", "150", "lb", "PatientWeight", 68.04),
        ("8302-2", "70", "IN", "PatientSize", 1.778),
        ("8302-2", "1.8", "m", "PatientSize", 1.8),
        ("8302-2", "1.8", "ell", "PatientSize", None),
        ("8302-2", "tall", "m", "PatientSize", None),
        ("8302-2", "nan", "m", "PatientSize", None),
        ("718-7", "14", "g", "PatientWeight", None),
    ],
)
def test_measures(code: str, value: str, unit: str, keyword: str, attribute: float | None) -> None:
    text = f"{without(ORM, 'OBX')}OBX|1|NM|{code}||{value}|{unit}\r"
    found = entry_of(text).attributes.to_dataset().get(keyword)
    assert (found if found is None else float(found)) == attribute


def test_the_account_number_stands_in_for_the_visit() -> None:
    assert fields_of(changed(ORM, "PV1", 19, ""))["admission_id"] == "ACC99"
    assert fields_of(without(ORM, "PV1"))["admission_id"] == "ACC99"


@pytest.mark.parametrize(
    ("sent", "sex"), [("M", "M"), ("O", "O"), ("A", "O"), ("U", None), ("N", None), ("x", None)]
)
def test_sexes(sent: str, sex: str | None) -> None:
    assert fields_of(changed(ORM, "PID", 8, sent)).get("sex") == sex


def test_texts_are_cut_and_codes_are_not() -> None:
    text = changed(ORM, "OBR", 44, f"{'9' * 17}^{'meaning ' * 10}^L")
    entry = entry_of(text)
    assert len(entry_fields(entry)["requested_procedure_desc"]) == 63
    assert not entry.attributes.items(0x00321064)


@pytest.fixture
def in_vienna() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CET-1"
    time.tzset()
    yield
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()


@pytest.mark.usefixtures("in_vienna")
@pytest.mark.parametrize(
    ("sent", "start"),
    [
        ("20261124", "20261124000000"),
        ("2026112409", "20261124090000"),
        ("20261124093015.25", "20261124093015"),
        ("202611242330+0000", "20261125003000"),
        ("202611240930+0100", "20261124093000"),
    ],
)
def test_times(sent: str, start: str) -> None:
    assert fields_of(changed(ORM, "ORC", 7, f"^^^{sent}"))["scheduled_datetime"] == start


def test_places_of_the_start_in_their_order() -> None:
    text = changed(ORM, "ORC", 7, "")
    assert fields_of(text)["scheduled_datetime"] == "20261124093000"  # OBR-27
    text = changed(changed(text, "OBR", 27, ""), "OBR", 36, "202611241700")
    assert fields_of(text)["scheduled_datetime"] == "20261124170000"
    assert fields_of(changed(OMI, "IPC", 4, "S").split("\rIPC")[0] + "\rIPC|A|R||S|MR||||AE1\r")


@pytest.mark.parametrize(
    ("text", "rules", "station"),
    [
        (ORM, OrderRules(stations={"CT": "OTHER"}), "CT_01"),
        (ORM, OrderRules(stations={"CT_01": "CT_SCANNER"}), "CT_SCANNER"),
        (changed(ORM, "OBR", 21, ""), OrderRules(stations={"CT": "BY_CT", "*": "X"}), "BY_CT"),
        (changed(ORM, "OBR", 21, ""), OrderRules(stations={"MR": "BY_MR", "*": "X"}), "X"),
        (changed(ORM, "OBR", 21, "ROOM 3"), OrderRules(stations={"ROOM 3": "CT3"}), "CT3"),
    ],
)
def test_stations_by_table(text: str, rules: OrderRules, station: str) -> None:
    assert fields_of(text, rules)["station_ae"] == station


def test_stations_of_an_OMI_by_name_and_room() -> None:
    text = changed(OMI, "IPC", 9, "")
    for name in ("MAGNET1", "R2", "Room 2"):
        orders = orders_of(text, OrderRules(stations={name: "MR_99"}))
        assert {order.entry.step_text(0x00400001) for order in orders if order.entry} == {"MR_99"}


def test_modalities_by_table() -> None:
    text = changed(ORM, "OBR", 24, "RUS")
    assert fields_of(text, OrderRules(modalities={"RUS": "US"}))["modality"] == "US"
    text = changed(ORM, "OBR", 24, "")
    assert fields_of(text, OrderRules(modalities={"*": "OT"}))["modality"] == "OT"
    assert str(fault_of(text)).startswith("OBR-24: ")


@pytest.mark.parametrize(
    ("control", "status", "meant", "state"),
    [
        ("NW", "", Control.PUT, None),
        ("NW", "SC", Control.PUT, None),
        ("NW", "IP", Control.PUT, None),
        ("XO", "", Control.PUT, None),
        ("XX", "SC", Control.PUT, None),
        ("XO", "CM", Control.PUT, EntryState.COMPLETED),
        ("XO", "CA", Control.CANCEL, None),
        ("CA", "CA", Control.CANCEL, None),
        ("OC", "", Control.CANCEL, None),
        ("DC", "", Control.DISCONTINUE, None),
        ("OD", "DC", Control.DISCONTINUE, None),
        ("SC", "IP", Control.STATUS, EntryState.STARTED),
        ("SC", "CM", Control.STATUS, EntryState.COMPLETED),
        ("SC", "DC", Control.STATUS, EntryState.DISCONTINUED),
        ("SC", "SC", Control.STATUS, None),
        ("SC", "CA", Control.CANCEL, None),
    ],
)
def test_order_controls(
    control: str, status: str, meant: Control, state: EntryState | None
) -> None:
    (order,) = orders_of(changed(changed(ORM, "ORC", 1, control), "ORC", 5, status))
    assert (order.control, order.state) == (meant, state)
    assert (order.step_id, order.accession_number) == ("SPS1", "A1001")
    assert (order.entry is not None) == (meant is Control.PUT)


@pytest.mark.parametrize(
    ("text", "place", "number"),
    [
        (changed(ORM, "PID", 3, ""), "PID-3", 101),
        (changed(ORM, "PID", 3, "x" * 65), "PID-3", 102),
        (changed(ORM, "PID", 3, "A\\E\\1"), "PID-3", 102),
        (changed(ORM, "PID", 5, ""), "PID-5", 101),
        (changed(ORM, "PID", 7, "31.01.1970"), "PID-7", 102),
        (changed(ORM, "PID", 7, "19701331"), "PID-7", 102),
        (without(ORM, "PID"), "PID", 100),
        (without(ORM, "ORC"), "OBR", 100),
        (without(without(ORM, "ORC"), "OBR"), "ORC", 100),
        (changed(ORM, "ORC", 1, ""), "ORC-1", 101),
        (changed(ORM, "ORC", 1, "ZZ"), "ORC-1", 103),
        (changed(changed(ORM, "ORC", 1, "SC"), "ORC", 5, ""), "ORC-5", 101),
        (changed(changed(ORM, "ORC", 1, "SC"), "ORC", 5, "XY"), "ORC-5", 103),
        (changed(changed(ORM, "ORC", 7, ""), "OBR", 27, ""), "ORC-7", 101),
        (changed(ORM, "ORC", 7, "^^^tomorrow"), "ORC-7", 102),
        (changed(ORM, "ORC", 7, "^^^202613240930"), "ORC-7", 102),
        (changed(ORM, "ORC", 7, "^^^000101010000+1400"), "ORC-7", 102),
        (changed(without(OMI, "TQ1"), "ORC", 7, ""), "TQ1-7", 101),
        (changed(ORM, "ORC", 2, "x" * 65), "ORC-2", 102),
        (changed(ORM, "PV1", 19, "x" * 65), "PV1-19", 102),
        (changed(ORM, "OBR", 18, "x" * 17), "OBR-18", 102),
        (changed(ORM, "OBR", 18, "A\\E\\1"), "OBR-18", 102),
        (changed(ORM, "OBR", 19, "x" * 17), "OBR-19", 102),
        (changed(ORM, "OBR", 20, "x" * 17), "OBR-20", 102),
        (changed(ORM, "OBR", 21, ""), "OBR-21", 101),
        (changed(ORM, "OBR", 21, "x" * 17), "OBR-21", 102),
        (changed(ORM, "OBR", 21, "ÄE"), "OBR-21", 102),
        (changed(ORM, "OBR", 24, "ct scan"), "OBR-24", 102),
        (changed(ORM, "OBR", 24, "ÄT"), "OBR-24", 102),
        (changed(ORM, "ZDS", 1, "1.2.Ä"), "ZDS-1", 102),
        (changed(ORM, "ZDS", 1, "no uid"), "ZDS-1", 102),
        (changed(OMI, "IPC", 3, "1..2"), "IPC-3", 102),
        (changed(OMI, "IPC", 5, ""), "IPC-5", 101),
        (changed(OMI, "IPC", 9, ""), "IPC-9", 101),
        (changed(ORM, "MSH", 10, ""), "MSH-10", 101),
    ],
)
def test_faults_name_field_and_code(text: str, place: str, number: int) -> None:
    fault = fault_of(text)
    assert str(fault).startswith(f"{place}: "), fault
    assert fault.code.number == number
    assert not fault.is_reject


def test_the_second_segment_of_a_name_is_told() -> None:
    head, _, last = OMI.rpartition("IPC|")
    fault = fault_of(head + "IPC|" + last.replace("SPS3", "x" * 17))
    assert str(fault.place) == "IPC-4 (the 2. one)"


@pytest.mark.parametrize(
    ("field", "value", "number"),
    [
        (9, "ADT^A01", 200), (9, "", 200), (9, "ORM^O02", 201), (11, "T", 202), (11, "", 202),
        (12, "3.0", 203), (12, "", 203),
    ],
)  # fmt: skip
def test_headers_that_are_rejected(field: int, value: str, number: int) -> None:
    fault = fault_of(changed(ORM, "MSH", field, value))
    assert fault.is_reject
    assert fault.code.number == number


def test_what_a_site_allows() -> None:
    rules = OrderRules(processing_ids=frozenset({"P", "T"}))
    assert entry_of(changed(ORM, "MSH", 11, "T"), rules)
    assert entry_of(changed(ORM, "MSH", 9, "ORM"))


def test_no_fault_shows_a_value() -> None:
    said: set[str] = set()
    secrets = ("SECRET", "19121213")
    for segment, fields in {"PID": range(1, 19), "OBR": range(1, 45), "ORC": range(1, 20)}.items():
        for field in fields:
            for secret in (*secrets, "SECRET" * 20, "^^^SECRET"):
                try:
                    orders_of(changed(ORM, segment, field, secret))
                except Hl7Error as fault:
                    said.add(str(fault))
    assert len(said) > 10
    assert not any(secret in text for secret in secrets for text in said), said


@pytest.mark.parametrize(
    "obr",
    [
        "OBR|1|P|F|C^D^L|||||||||" + "\\H" * 400_000,
        "OBR|1|P|F|C^D^L|||||||||" + "\\E\\" * 250_000,
        "OBR|1|P|F|C^D^L\rNTE|1||" + "\\H" * 400_000,
    ],
    ids=["formatting", "escapes", "notes"],
)
def test_what_steps_share_is_read_once(obr: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    unescaped = Segment._unescaped

    def counting(segment: Segment, text: str) -> str:
        nonlocal read
        read += len(text)
        return unescaped(segment, text)

    monkeypatch.setattr(Segment, "_unescaped", counting)
    head, _, _ = OMI.partition("OBR")
    steps = "".join(f"IPC|A|RP|1.2.3.{n}|S{n}|MR|||ROOM|MR_01\r" for n in range(190))
    message = f"{head}{obr}\r{steps}"
    orders = read_orders(read_message(message.encode()), RULES)
    assert len(orders) == 190
    # Not a hundred times: that took a processor half a minute.
    assert read < 2 * len(message)
