"""Query and storage checks, made only when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from isocenter.engine.dimse.status import StatusClass, classify, describe_status
from isocenter.engine.errors import IsocenterError
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.index.attributes import Level
from isocenter.services.diagnostics import findings as diagnosis
from isocenter.services.diagnostics.doctor.check import CheckResult, Tell
from isocenter.services.diagnostics.doctor.connectivity import PeerTarget
from isocenter.services.diagnostics.doctor.negotiation import associate
from isocenter.services.diagnostics.findings import Finding, Side, error, note, warning
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.dicom.uids import new_uid
from isocenter.services.errors import NoPresentationContextError, OperationError
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.query_retrieve.find_scu import FindResults
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier

if TYPE_CHECKING:
    import pydicom

SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
#: Nobody can mistake it for a patient.
TEST_PATIENT_ID: Final = "ISOCENTER-DOCTOR"
_TEST_NAME: Final = "TEST^ISOCENTER-DOCTOR"
_EDGE: Final = 8


async def check_find(way: PeerTarget, tell: Tell) -> None:
    """C-FIND for a study that cannot exist: the answer is empty, and shows that it works."""
    what = "C-FIND"
    uid = new_uid()
    try:
        async with (
            associate(way, [(sop_classes.STUDY_ROOT_FIND, BASIC_SYNTAXES)]) as association,
            find(association, Level.STUDY, {"StudyInstanceUID": uid}) as matches,
        ):
            number = 0
            async for _ in matches:
                number += 1
            status = matches.status
    except IsocenterError as fault:
        tell(CheckResult(what, "no answer", (of_fault(what, fault),)))
        return
    findings: tuple[Finding, ...] = ()
    if number:
        findings = (
            warning(
                f"it answered {number} matches to a Study Instance UID that nobody has",
                "PS3.4 C.2.2.2.1",
                "look whether the peer ignores keys that it does not know",
                meaning="queries bring more than was asked for",
                side=Side.PEER,
            ),
        )
    tell(CheckResult(what, f"{status or 0:04X}H, {number} matches, as asked", findings))


def find(association: ClientAssociation, level: Level, keys: Mapping[str, str]) -> FindResults:
    """A C-FIND in the Study Root model."""
    pairs = tuple(keys.items())
    return association.find(lambda syntax: build_identifier(pairs, level, syntax))


async def check_store(way: PeerTarget, tell: Tell) -> None:
    """C-STORE of one small Secondary Capture image, which stays at the peer."""
    what = "C-STORE"
    item = synthetic_object()
    try:
        async with associate(
            way, [(SECONDARY_CAPTURE, (EXPLICIT_VR_LITTLE_ENDIAN,))]
        ) as association:
            try:
                status = (await association.store(item)).status
            except OperationError as refused:
                status = refused.status
    except IsocenterError as fault:
        tell(CheckResult(what, "no answer", (of_fault(what, fault),)))
        return
    text = status_text(status)
    findings: list[Finding] = []
    found = diagnosis.of_status(status, f"the peer answered {text}")
    if found is not None:
        findings.append(found)
    if classify(status) is not StatusClass.FAILURE:
        findings.append(
            note(
                f"a test object stays there: Patient ID {TEST_PATIENT_ID}, SOP Instance UID "
                f"{item.SOPInstanceUID}",
                cure="delete it there",
                side=Side.PEER,
            )
        )
    tell(CheckResult(what, text, tuple(findings), facts={"status": f"{status:04X}"}))


def synthetic_object() -> pydicom.Dataset:
    """A grey square of a patient who does not exist."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    item = pydicom.Dataset()
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = UID(EXPLICIT_VR_LITTLE_ENDIAN)
    item.SOPClassUID = SECONDARY_CAPTURE
    item.SOPInstanceUID = new_uid()
    item.StudyInstanceUID = new_uid()
    item.SeriesInstanceUID = new_uid()
    item.PatientName, item.PatientID = _TEST_NAME, TEST_PATIENT_ID
    item.PatientBirthDate = item.PatientSex = ""
    item.StudyDate = item.StudyTime = item.AccessionNumber = item.ReferringPhysicianName = ""
    item.StudyID, item.SeriesNumber, item.InstanceNumber = "", 1, 1
    item.Modality, item.ConversionType = "OT", "SYN"
    item.PatientOrientation = ""
    item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
    item.Rows = item.Columns = _EDGE
    item.BitsAllocated = item.BitsStored = 8
    item.HighBit, item.PixelRepresentation = 7, 0
    item.PixelData = bytes([0x80] * _EDGE * _EDGE)
    return item


def of_fault(what: str, fault: IsocenterError) -> Finding:
    """Why a probe got no good answer."""
    match fault:
        case OperationError():
            found = diagnosis.of_status(fault.status, f"the peer answered {fault}")
            return found or error(str(fault), side=Side.PEER)
        case NoPresentationContextError():
            return error(
                str(fault),
                "PS3.8 9.3.3.2",
                f"switch the SOP class on at the peer, if {what} is wanted of it",
                side=Side.PEER,
            )
        case _:
            return error(f"{what}: {fault}", side=Side.PEER)


def status_text(status: int) -> str:
    """Hexadecimal, with the standard's words."""
    return f"{status:04X}H {describe_status(status)}"
