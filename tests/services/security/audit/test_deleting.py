"""What is said of what was deleted, restored and purged: PS3.15 A.5.3.8 and A.5.3.6."""

from __future__ import annotations

import base64
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.deletion.records import DeletedStudy, DeletionCause
from isocenter.services.archive.deletion.values import TrashChange, TrashChanged
from isocenter.services.composition.audit import deletion_recorder
from isocenter.services.security.audit.deletion_messages import objects_deleted
from isocenter.services.security.audit.messages import AuditSource, to_xml
from isocenter.services.security.audit.participants import ActiveProcess
from isocenter.services.settings.loading import load_settings

HERE = ActiveProcess(ae_titles=("ISOCENTER",), process_id=7, machine="archive", user="root")


def happened(what: TrashChange, *, remaining: int = 0) -> TrashChanged:
    return TrashChanged(
        what=what,
        study=DeletedStudy(
            study_instance_uid="1.2.3",
            accession_number="",
            sop_classes={"1.2.840.10008.5.1.4.1.1.2": 5},
            remaining=remaining,
            patient_id="P1",
            patient_name="Zenobia^Wanda",
        ),
        cause=DeletionCause.REQUESTED,
        actor="alice@desk",
        reason="wrong pätient",
        deletion_id="5f3a9c12",
    )


@pytest.mark.parametrize(
    ("what", "remaining", "code", "action"),
    [
        (TrashChange.DELETED, 0, "110105", "D"),
        (TrashChange.DELETED, 2, "110103", "D"),
        (TrashChange.PURGED, 0, "110105", "D"),
        (TrashChange.PURGED, 2, "110103", "D"),
        (TrashChange.RESTORED, 0, "110103", "C"),
        (TrashChange.RESTORED, 2, "110103", "C"),
    ],
)
def test_who_what_and_why(what: TrashChange, remaining: int, code: str, action: str) -> None:
    message = objects_deleted(HERE, happened(what, remaining=remaining))
    root = ET.fromstring(to_xml(message, AuditSource(source_id="ISOCENTER")))
    event = root.find("EventIdentification")
    assert event is not None
    assert event.attrib["EventActionCode"] == action
    assert [each.attrib["csd-code"] for each in event.findall("EventID")] == [code]
    person, process = root.findall("ActiveParticipant")
    assert (person.attrib["UserID"], person.attrib["UserIsRequestor"]) == ("alice@desk", "true")
    assert process.attrib["UserID"] == "7"
    study, patient = root.findall("ParticipantObjectIdentification")
    assert study.attrib["ParticipantObjectID"] == "1.2.3"
    details = {
        each.attrib["type"]: base64.b64decode(each.attrib["value"]).decode()
        for each in study.findall("ParticipantObjectDetail")
    }
    assert details == {"Deletion": "5f3a9c12", "Reason": "wrong pätient"}
    sop_class = study.find("ParticipantObjectDescription/SOPClass")
    assert sop_class is not None
    assert sop_class.attrib["NumberOfInstances"] == "5"
    assert patient.attrib["ParticipantObjectID"] == "P1"


@pytest.mark.parametrize("on_failure", ["stop", "continue"])
async def test_a_trail_that_cannot_be_written(tmp_path: Path, on_failure: str) -> None:
    (tmp_path / "audit").write_text("in the way")
    settings = load_settings(
        environ={},
        overrides={"storage.data_dir": str(tmp_path), "audit.on_failure": on_failure},
    )
    record = deletion_recorder(settings, "isocenter delete")
    if on_failure == "continue":
        await record([happened(TrashChange.DELETED)])
        return
    with pytest.raises(IsocenterError, match="the audit trail cannot be written"):
        await record([happened(TrashChange.DELETED)])
