"""Coded values of audit messages (PS3.16 CID 400 to 405, PS3.15 A.5.1.2.4)."""

from __future__ import annotations

from enum import Enum
from typing import Final

from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value: ``csd-code``, ``codeSystemName`` and ``originalText`` (Code Meaning)."""

    value: str
    scheme: str
    meaning: str


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


class EventId(Enum):
    """Families of events (CID 400)."""

    APPLICATION_ACTIVITY = _dcm("110100", "Application Activity")
    AUDIT_LOG_USED = _dcm("110101", "Audit Log Used")
    BEGIN_TRANSFERRING = _dcm("110102", "Begin Transferring DICOM Instances")
    INSTANCES_ACCESSED = _dcm("110103", "DICOM Instances Accessed")
    INSTANCES_TRANSFERRED = _dcm("110104", "DICOM Instances Transferred")
    STUDY_DELETED = _dcm("110105", "DICOM Study Deleted")
    EXPORT = _dcm("110106", "Export")
    IMPORT = _dcm("110107", "Import")
    PATIENT_RECORD = _dcm("110110", "Patient Record")
    PROCEDURE_RECORD = _dcm("110111", "Procedure Record")
    NETWORK_ENTRY = _dcm("110108", "Network Entry")
    ORDER_RECORD = _dcm("110109", "Order Record")
    QUERY = _dcm("110112", "Query")
    SECURITY_ALERT = _dcm("110113", "Security Alert")
    USER_AUTHENTICATION = _dcm("110114", "User Authentication")


class EventType(Enum):
    """What happened within a family (CID 401 and 403)."""

    APPLICATION_START = _dcm("110120", "Application Start")
    APPLICATION_STOP = _dcm("110121", "Application Stop")
    LOGIN = _dcm("110122", "Login")
    LOGOUT = _dcm("110123", "Logout")
    ATTACH = _dcm("110124", "Attach")
    DETACH = _dcm("110125", "Detach")
    NODE_AUTHENTICATION = _dcm("110126", "Node Authentication")
    NETWORK_CONFIGURATION = _dcm("110128", "Network Configuration")
    SECURITY_CONFIGURATION = _dcm("110129", "Security Configuration")
    SOFTWARE_CONFIGURATION = _dcm("110131", "Software Configuration")
    USE_OF_RESTRICTED_FUNCTION = _dcm("110132", "Use of Restricted Function")
    AUDIT_RECORDING_STARTED = _dcm("110134", "Audit Recording Started")
    OBJECT_SECURITY_ATTRIBUTES_CHANGED = _dcm("110135", "Object Security Attributes Changed")
    USER_SECURITY_ATTRIBUTES_CHANGED = _dcm("110137", "User Security Attributes Changed")


#: Roles of participants (CID 402).
APPLICATION: Final = _dcm("110150", "Application")
APPLICATION_LAUNCHER: Final = _dcm("110151", "Application Launcher")
DESTINATION: Final = _dcm("110152", "Destination Role ID")
SOURCE: Final = _dcm("110153", "Source Role ID")
DESTINATION_MEDIA: Final = _dcm("110154", "Destination Media")
SOURCE_MEDIA: Final = _dcm("110155", "Source Media")

#: What a Participant Object ID is (CID 404, PS3.15 A.5.1.2.4).
STUDY_INSTANCE_UID: Final = _dcm("110180", "Study Instance UID")
SOP_CLASS_UID: Final = _dcm("110181", "SOP Class UID")
NODE_ID: Final = _dcm("110182", "Node ID")
PATIENT_NUMBER: Final = Code("2", "RFC-3881", "Patient Number")
URI: Final = Code("12", "RFC-3881", "URI")

#: Where imported data lay, or exported data lie (CID 405).
MEDIA_URI: Final = _dcm("110037", "URI")
