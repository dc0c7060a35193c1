"""Validation of objects on arrival: policies, answers, marks."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset

from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.ports import InstanceRecord
from isocenter.services.archive.rules.evaluation import Rules
from isocenter.services.archive.store_answers import StoreOutcome, StoreResult
from isocenter.services.archive.validation import arrival
from isocenter.services.archive.validation.mark import RefusedObject, ValidationPolicy
from isocenter.services.errors import StorageError
from isocenter.services.settings.rules import RuleFault, parse_rule, table_of
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.memory import MemoryStore

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
CT = pydicom.dcmread(DATA / "CT_small.dcm")
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


def ct(*without: str, **values: Any) -> bytes:
    """An image as it comes over the wire, without some attributes."""
    changed = pydicom.dcmread(DATA / "CT_small.dcm")
    for keyword in without:
        delattr(changed, keyword)
    for keyword, value in values.items():
        setattr(changed, keyword, value)
    target = BytesIO()
    stream = DicomIO(target)
    stream.is_implicit_VR, stream.is_little_endian = False, True
    write_dataset(stream, changed)
    return target.getvalue()


def deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    done = deflater.compress(data) + deflater.flush()
    return done + bytes(len(done) & 1)


class Taking:
    """An archive in memory that takes one object at a time."""

    def __init__(self, policy: ValidationPolicy, *rules: dict[str, Any]) -> None:
        self.validated: list[tuple[bool, bool]] = []
        self.record: InstanceRecord | None = None
        self.refused: list[RefusedObject] = []
        self.fault: Exception | None = None
        self.archive = Archive(
            MemoryStore(),
            MemoryIndex(),
            validation=policy,
            rules=Rules([parse_rule({"name": f"r{n}", **each}) for n, each in enumerate(rules)]),
            on_validated=lambda is_valid, is_refused: self.validated.append((is_valid, is_refused)),
            on_refused=self._note,
        )

    async def _note(self, refused: RefusedObject) -> None:
        if self.fault is not None:
            raise self.fault
        self.refused.append(refused)

    async def take(
        self,
        data: bytes,
        *,
        sender: str = "SENDER",
        syntax: str = EXPLICIT_VR_LITTLE_ENDIAN,
        pieces: Sequence[int] = (),
    ) -> StoreResult:
        async with (
            self.archive,
            await self.archive.receive(
                sop_class_uid=CT_STORAGE,
                sop_instance_uid=CT.SOPInstanceUID,
                transfer_syntax_uid=syntax,
                source_ae_title=sender,
            ) as ingest,
        ):
            at = 0
            for size in pieces or (1000,) * (len(data) // 1000 + 1):
                await ingest.write([data[at : at + size]])
                at += size
            result = await ingest.commit()
            self.record = ingest.record
        return result


async def test_off_costs_nothing_and_marks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    taking = Taking(ValidationPolicy.OFF)
    monkeypatch.setattr(arrival, "ArrivalValidation", None)  # whoever made one would fail
    assert (await taking.take(ct("StudyID"))).status == 0
    assert taking.record is not None
    assert taking.record.validation is None
    assert taking.validated == []


async def test_log_keeps_and_marks() -> None:
    taking = Taking(ValidationPolicy.LOG)
    result = await taking.take(ct("FrameOfReferenceUID", "StudyID"))
    assert (result.outcome, result.status) == (StoreOutcome.STORED, 0)
    assert result.forgiven[-1] == "not valid: CT-TYPE1-MISSING FrameOfReferenceUID"
    assert taking.record is not None
    mark = taking.record.validation
    assert mark is not None
    assert (mark.sender, mark.errors, mark.warnings) == ("SENDER", 1, 1)
    assert mark.device == "CT GE MEDICAL SYSTEMS RHAPSODE"
    assert [rule.code for rule in mark.rules] == ["CT-TYPE1-MISSING", "CT-TYPE2-MISSING"]
    assert taking.validated == [(False, False)]


async def test_warn_tells_the_sender() -> None:
    result = await Taking(ValidationPolicy.WARN).take(ct("FrameOfReferenceUID"))
    assert result.status == 0xB007
    assert result.comment == "kept; not valid: CT-TYPE1-MISSING FrameOfReferenceUID"


async def test_warnings_alone_leave_an_object_valid() -> None:
    taking = Taking(ValidationPolicy.REJECT)
    assert (await taking.take(ct("StudyID"))).status == 0
    assert taking.validated == [(True, False)]


async def test_reject_refuses_with_A900_and_names_the_attributes() -> None:
    taking = Taking(ValidationPolicy.REJECT)
    with pytest.raises(StoreError) as refused:
        await taking.take(ct("FrameOfReferenceUID"))
    assert refused.value.status == 0xA900
    assert "CT-TYPE1-MISSING FrameOfReferenceUID" in refused.value.comment
    assert taking.validated == [(False, True)]
    assert (await taking.archive.index.statistics()).instances == 0
    (record,) = taking.refused
    assert record.sop_instance_uid == CT.SOPInstanceUID
    assert (record.sender, record.sop_class_uid) == ("SENDER", CT_STORAGE)
    assert record.why == "CT-TYPE1-MISSING FrameOfReferenceUID"
    assert str(CT.PatientName) not in repr(record)


async def test_a_record_that_cannot_be_kept_changes_no_answer() -> None:
    taking = Taking(ValidationPolicy.REJECT)
    taking.fault = StorageError("away")
    with pytest.raises(StoreError) as refused:
        await taking.take(ct("FrameOfReferenceUID"))
    assert refused.value.status == 0xA900


@pytest.mark.parametrize(("sender", "status"), [("STRICT", None), ("OLD", 0), ("OTHER", 0xB007)])
async def test_a_rule_says_otherwise_for_a_sender(sender: str, status: int | None) -> None:
    taking = Taking(
        ValidationPolicy.WARN,
        {"when": {"calling_ae": "STRICT", "sop_class_uid": CT_STORAGE}, "validate": "reject"},
        {"when": {"calling_ae": "OLD"}, "validate": "off"},
    )
    data = ct("FrameOfReferenceUID")
    if status is None:
        with pytest.raises(StoreError):
            await taking.take(data, sender=sender)
    else:
        assert (await taking.take(data, sender=sender)).status == status


async def test_a_rule_alone_is_enough_and_others_are_not_held() -> None:
    taking = Taking(ValidationPolicy.OFF, {"when": {"calling_ae": "STRICT"}, "validate": "warn"})
    assert (await taking.take(ct("FrameOfReferenceUID"), sender="STRICT")).status == 0xB007
    other = Taking(ValidationPolicy.OFF, {"when": {"calling_ae": "STRICT"}, "validate": "warn"})
    assert (await other.take(ct("FrameOfReferenceUID"))).status == 0
    assert other.validated == []


async def test_what_rules_change_is_judged_as_it_is_kept() -> None:
    taking = Taking(ValidationPolicy.REJECT, {"coerce": [{"set": "0020,0052", "value": "1.2.3"}]})
    result = await taking.take(ct("FrameOfReferenceUID"))
    assert result.status == 0xB000  # changed, and valid


async def test_pixels_that_are_not_held_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ct()
    monkeypatch.setattr(arrival, "MOST_HELD", data.index(b"\xe0\x7f\x10\x00") + 100)
    taking = Taking(ValidationPolicy.REJECT)
    assert (await taking.take(data)).status == 0
    assert taking.validated == [(True, False)]


async def test_what_is_too_large_without_pixels_is_not_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrival, "MOST_HELD", 1000)
    taking = Taking(ValidationPolicy.REJECT)
    assert (await taking.take(ct("Modality"))).status == 0
    assert taking.validated == []


async def test_a_fault_of_the_validator_keeps_no_object_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(arrival, "validate_items", broken)
    taking = Taking(ValidationPolicy.REJECT)
    assert (await taking.take(ct())).outcome is StoreOutcome.STORED
    assert taking.record is not None
    assert taking.record.validation is None
    assert taking.validated == []


async def test_a_deflated_object_is_judged_inflated() -> None:
    taking = Taking(ValidationPolicy.WARN)
    data = deflated(ct("FrameOfReferenceUID"))
    result = await taking.take(data, syntax=DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    assert result.status == 0xB007


def test_a_rule_keeps_its_policy_and_refuses_another() -> None:
    rule = parse_rule({"name": "r", "validate": "warn"})
    assert rule.validation is ValidationPolicy.WARN
    assert parse_rule(table_of(rule)) == rule
    with pytest.raises(RuleFault, match="validate must be off, log, warn, reject"):
        parse_rule({"name": "r", "validate": "maybe"})
