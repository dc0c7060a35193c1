"""ADT messages: what they want done to patients, and what is wrong with them."""

from __future__ import annotations

import pytest

from isocenter.services.integration.hl7.adt import EVENTS, read_demands
from isocenter.services.integration.hl7.errors import Hl7Error
from isocenter.services.integration.hl7.message import read_message
from isocenter.services.workflow.reconciliation.values import (
    Demand,
    Identifier,
    ReconciliationKind,
)
from services.integration.hl7.samples import changed, without

NAME, BIRTH_DATE, SEX = 0x00100010, 0x00100030, 0x00100040

UPDATE = """\
MSH|^~\\&|ADT|HOSPITAL|ARCHIVE|RADIOLOGY|20261124080000||ADT^A08^ADT_A01|MSG0001|P|2.5.1|\
|||||UNICODE UTF-8
EVN||20261124080000
PID|1||P1^^^HOSPITAL^PI~99^^^STATE^SS||Muster^Erika^Anna^Jr^Dr||19700131|F
PV1|1|O
""".replace("\n", "\r")
MERGE = """\
MSH|^~\\&|ADT|HOSPITAL|ARCHIVE|RADIOLOGY|20261124080000||ADT^A40^ADT_A39|MSG0002|P|2.5.1
EVN||20261124080000
PID|1||88^^^STATE~P2^^^HOSPITAL||Muster^Erika
MRG|P1^^^HOSPITAL
PID|2||P4^^^HOSPITAL||Beispiel^Max
PD1
MRG|P3^^^HOSPITAL
""".replace("\n", "\r")
LINK = """\
MSH|^~\\&|ADT|HOSPITAL|ARCHIVE|RADIOLOGY|20261124080000||ADT^A24|MSG0003|P|2.3.1
PID|1||P1^^^HOSPITAL
PID|2||Q1^^^CLINIC
""".replace("\n", "\r")


def demands(text: str) -> list[Demand]:
    return read_demands(read_message(text.encode()))


@pytest.mark.parametrize("event", ["A01", "A04", "A05", "A08", "A28", "A31"])
def test_an_update_says_what_is_known_of_the_patient(event: str) -> None:
    (one,) = demands(UPDATE.replace("A08", event))
    assert one.kind is ReconciliationKind.UPDATE
    assert one.patients == (Identifier("P1", "HOSPITAL"), Identifier("99", "STATE"))
    assert one.attributes == {NAME: "Muster^Erika^Anna^Dr^Jr", BIRTH_DATE: "19700131", SEX: "F"}


def test_what_an_update_does_not_say_stays_and_null_removes() -> None:
    text = changed(changed(changed(UPDATE, "PID", 5, ""), "PID", 7, '""'), "PID", 8, "U")
    assert demands(text)[0].attributes == {BIRTH_DATE: None}


@pytest.mark.parametrize("event", ["A18", "A34", "A36", "A39", "A40", "A47"])
def test_a_merge_has_a_pair_for_each_group(event: str) -> None:
    first, second = demands(MERGE.replace("A40", event))
    assert first.kind is second.kind is ReconciliationKind.MERGE
    # The ID of the same authority takes the place of the other.
    assert first.patients == (Identifier("P2", "HOSPITAL"), Identifier("88", "STATE"))
    assert first.others == (Identifier("P1", "HOSPITAL"),)
    assert (second.patients[0], second.others[0]) == (
        Identifier("P4", "HOSPITAL"), Identifier("P3", "HOSPITAL"),
    )  # fmt: skip


def test_studies_that_are_named_are_moved() -> None:
    text = MERGE.replace("A40", "A43")
    assert demands(text)[0].kind is ReconciliationKind.MERGE
    (move, _) = demands(text + "ZDS|1.2.3^RIS^Application^DICOM\r")
    assert (move.kind, move.studies) == (ReconciliationKind.MOVE_STUDY, ("1.2.3",))


def test_links_and_unlinks_have_two_patients() -> None:
    (one,) = demands(LINK)
    assert (one.kind, one.patients, one.others) == (
        ReconciliationKind.LINK, (Identifier("P1", "HOSPITAL"),), (Identifier("Q1", "CLINIC"),),
    )  # fmt: skip
    assert demands(LINK.replace("A24", "A37"))[0].kind is ReconciliationKind.UNLINK


@pytest.mark.parametrize(
    ("text", "words", "is_reject"),
    [
        (UPDATE.replace("A08", "A02"), "only the events", True),
        (UPDATE.replace("ADT^A08^ADT_A01", "ADT"), "only the events", True),
        (without(UPDATE, "PID"), "no patient", False),
        (changed(UPDATE, "PID", 3, ""), "PID-3: a Patient ID is missing", False),
        (changed(UPDATE, "PID", 3, "^^^HOSPITAL"), "PID-3: a Patient ID is missing", False),
        (changed(UPDATE, "PID", 3, "X" * 65), "PID-3: not an ID", False),
        (changed(UPDATE, "PID", 7, "31.01.1970"), "PID-7: no date", False),
        (without(MERGE, "MRG"), "no MRG segment", False),
        (changed(MERGE, "MRG", 1, ""), "MRG-1: a Patient ID is missing", False),
        (LINK + "PID|3||R1\r", "there are 3", False),
        (LINK.split("PID|2")[0], "there are 1", False),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, words: str, is_reject: bool) -> None:
    with pytest.raises(Hl7Error) as caught:
        demands(text)
    assert words.lower() in str(caught.value).lower()
    assert caught.value.is_reject is is_reject
    assert "Muster" not in str(caught.value)


def test_the_event_may_stand_in_evn_alone() -> None:
    text = UPDATE.replace("ADT^A08^ADT_A01", "ADT").replace("EVN||", "EVN|A08|")
    assert demands(text)[0].kind is ReconciliationKind.UPDATE
    assert len(EVENTS) == 15
