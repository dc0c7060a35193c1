"""Numeric codes of errors by area, stable from release to release.

Every exception class of Isocenter has one of them as its ``code``; command line, log and API show
it.  Numbers are never given to something else, and a code that nothing raises any more stays.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Self


class ErrorCode(IntEnum):
    """What went wrong, as a number below zero, with a few words for it."""

    words: str

    def __new__(cls, number: int, words: str) -> Self:
        made = int.__new__(cls, number)
        made._value_ = number
        made.words = words
        return made

    # Files (PS3.10).
    FILE_NOT_FOUND = -700, "there is no such file"
    FILE_NOT_READ = -701, "a file cannot be read"
    FILE_NOT_WRITTEN = -702, "a file cannot be written"
    FILE_DAMAGED = -703, "a file is DICOM, and damaged"
    FILE_NOT_DICOM = -704, "a file is not DICOM"
    FILE_META_INVALID = -705, "the File Meta Information cannot be read"
    FILE_WITHOUT_TRANSFER_SYNTAX = -706, "a file names no transfer syntax"
    FILE_TRANSFER_SYNTAX_UNSUPPORTED = -707, "the transfer syntax of a file is not supported"
    # Elements.
    ELEMENT_NOT_FOUND = -720, "there is no such element"
    ELEMENT_CONVERSION = -721, "a value is none of its VR"
    ELEMENT_VR = -722, "a VR is unknown, or another than expected"
    ELEMENT_TAG = -723, "a tag, keyword or path is none"
    ELEMENT_SIZE = -724, "a value is longer than is allowed"
    # Encoding (PS3.5).
    DECODING = -740, "a data set cannot be decoded"
    ENCODING = -741, "a data set cannot be encoded"
    COMPRESSION = -742, "pixel data cannot be compressed"
    DECOMPRESSION = -743, "pixel data cannot be decompressed"
    TAG_ENCODING = -744, "the tag of an element cannot be encoded"
    LENGTH_ENCODING = -745, "the length of an element cannot be"
    INSUFFICIENT_DATA = -746, "a data set ends early"
    SEQUENCE = -747, "a sequence is wrong in itself"
    UNKNOWN_VR = -748, "an element has no VR that is known"
    CODEC_UNAVAILABLE = -749, "there is no codec for a transfer syntax"
    # Associations (PS3.8).
    ASSOCIATION_REJECTED = -760, "the association was rejected"
    ASSOCIATION_ABORTED = -761, "the association was aborted"
    DIMSE = -762, "an operation was answered with a failure"
    PDU = -763, "a PDU is wrong"
    CONNECTION_FAILED = -764, "no connection"
    CONNECTION_TIMEOUT = -765, "no connection in time"
    SENDING = -766, "bytes could not be sent"
    RECEIVING = -767, "bytes could not be received"
    RECEIVE_TIMEOUT = -768, "no answer in time"
    PROTOCOL_STATE = -770, "not allowed in this state of the association"
    NEGOTIATION = -771, "the negotiation failed"
    NO_PRESENTATION_CONTEXT = -772, "no presentation context was accepted"
    RELEASE = -773, "the release failed"
    ALREADY_RELEASED = -774, "the association has ended"
    PDU_ENCODING = -775, "a PDU cannot be encoded"
    PDU_DECODING = -776, "a PDU cannot be decoded"
    PDU_INCOMPLETE = -777, "a PDU ends early"
    PDU_TYPE = -778, "a PDU has an unknown type"
    PDU_MALFORMED = -779, "a PDU contradicts itself"
    # Storage.
    STORING = -780, "an object could not be stored"
    RETRIEVING = -781, "an object could not be retrieved"
    QUERYING = -782, "a query failed"
    DATABASE_OPEN = -783, "the database cannot be opened"
    DATABASE_CONNECTION = -784, "no connection to the database"
    DATABASE_QUERY = -785, "the database refused a statement"
    DATABASE_TRANSACTION = -786, "a transaction failed"
    DATABASE_MIGRATION = -787, "the schema cannot be brought up to date, or is newer"
    INTEGRITY = -788, "what is kept is not what was stored"
    BUCKET = -790, "a bucket or container cannot be used"
    BUCKET_OBJECT = -791, "an object of a bucket cannot be used"
    UPLOAD = -792, "an upload failed"
    DOWNLOAD = -793, "a download failed"
    CLOUD_CONNECTION = -794, "no connection to the object store"
    TIER = -796, "a storage tier cannot be used"
    TIER_MIGRATION = -797, "an object could not be moved between tiers"
    TIER_INSTANCE = -798, "an instance is in no tier"
    # C-STORE.
    STORE_NO_HANDLER = -800, "nothing here takes objects"
    STORE_NO_SOP_CLASS = -801, "a C-STORE names no SOP class"
    STORE_NO_SOP_INSTANCE = -802, "a C-STORE names no SOP instance"
    STORE_NO_CONTEXT = -803, "no presentation context for an object"
    STORE_REFUSED = -804, "an object was refused before it was stored"
    STORE_NO_DATA_SET = -805, "a C-STORE has no data set"
    STORE_UNEXPECTED_COMMAND = -806, "another command where C-STORE was expected"
    # C-FIND.
    FIND_NO_HANDLER = -820, "nothing here answers queries"
    FIND_LEVEL_INVALID = -821, "the identifier of a query cannot be"
    FIND_LEVEL_MISSING = -822, "a query has no level"
    FIND_UNEXPECTED_COMMAND = -823, "another command where C-FIND was expected"
    FIND_CANCELLED = -824, "a query was cancelled"
    # C-MOVE and C-GET.
    RETRIEVE_NO_HANDLER = -840, "nothing here answers retrieves"
    RETRIEVE_NO_DESTINATION = -841, "a C-MOVE names no destination"
    RETRIEVE_UNKNOWN_DESTINATION = -842, "the destination of a C-MOVE is unknown"
    RETRIEVE_SUBOPERATION = -843, "a sub-operation failed"
    RETRIEVE_UNEXPECTED_COMMAND = -844, "another command where C-MOVE or C-GET was expected"
    RETRIEVE_CANCELLED = -845, "a retrieve was cancelled"
    # C-ECHO.
    ECHO_UNEXPECTED_COMMAND = -860, "another command where C-ECHO was expected"
    # Performed procedure steps, storage commitment.
    STEP_NO_HANDLER = -870, "nothing here takes performed procedure steps"
    STEP_STATE = -871, "not allowed in the state of a performed procedure step"
    STEP_UNEXPECTED_COMMAND = -872, "another command where N-CREATE or N-SET was expected"
    STEP_CONTEXT = -873, "no presentation context for performed procedure steps"
    STEP_UID = -874, "a performed procedure step has no UID that can be"
    STEP_TRANSITION = -875, "a performed procedure step cannot become that"
    COMMITMENT_UNEXPECTED_COMMAND = -876, "another command where N-ACTION was expected"
    COMMITMENT_CLASS = -877, "a commitment names another SOP class"
    COMMITMENT_TRANSACTION_UID = -878, "a commitment has no Transaction UID"
    COMMITMENT_SEQUENCE = -879, "a commitment names no instances"
    # Worklist, attributes of instances, print.
    WORKLIST_NO_HANDLER = -880, "nothing here answers worklist queries"
    WORKLIST_ENTRY = -881, "a worklist entry cannot be"
    WORKLIST_CONFLICT = -882, "a worklist entry contradicts another"
    WORKLIST_UNEXPECTED_COMMAND = -883, "another command where a worklist query was expected"
    ATTRIBUTES_NOT_FOUND = -884, "there is no such instance to get attributes of"
    ATTRIBUTES_UNEXPECTED_COMMAND = -885, "another command where N-GET was expected"
    PRINT_NO_HANDLER = -886, "nothing here prints"
    PRINT_NOT_FOUND = -887, "there is no such film session, box or printer"
    PRINT_FAILED = -888, "a film was not printed"
    PRINT_UNEXPECTED_COMMAND = -889, "another command where one of print was expected"
    # In general, and unified procedure steps.
    NOT_ESTABLISHED = -890, "there is no association"
    GENERAL = -891, "an operation failed"
    NOT_A_REGULAR_FILE = -892, "a path names no regular file"
    PARSING = -893, "a text cannot be read"
    UPS_NO_HANDLER = -895, "nothing here takes unified procedure steps"
    UPS_UNEXPECTED_COMMAND = -896, "another command where one of UPS was expected"
    UPS_TRANSITION = -897, "a unified procedure step cannot become that"
    UPS_UID = -898, "a unified procedure step has no UID that can be"
    UPS_NOT_FOUND = -899, "there is no such unified procedure step"
    UPS_ACTION_TYPE = -900, "an unknown action of unified procedure steps"
    UPS_TRANSACTION_UID = -901, "the Transaction UID is missing, or another"
    UPS_CONTEXT = -902, "no presentation context for unified procedure steps"
    # Ours: what is not DICOM's.
    ARGUMENTS = -920, "the arguments of a command cannot be"
    SETTINGS = -921, "a setting cannot be"
    START = -922, "the server cannot start"
    PLUGIN = -923, "a plug-in cannot be used"
    RULE = -924, "a rule cannot be"
    PERMISSION = -930, "not permitted"
    POLICY = -931, "the access policy cannot be used or changed"
    CERTIFICATE = -932, "a certificate or key cannot be used"
    IDENTITY_PROVIDER = -933, "the identity provider, or its keys, cannot be used"
    AUDIT = -934, "the audit trail cannot be written or read"
    SIGNATURE = -935, "a digital signature cannot be made or checked"
    BACKUP = -940, "a backup or a restore failed"
    CORRECTION = -941, "a correction cannot be made"
    DELETION = -942, "a deletion is refused"
    IMPORTING = -943, "a file was not imported"
    EXPORTING = -944, "an export failed"
    EVENT_DELIVERY = -945, "an event was not delivered"
    NODE = -946, "a remote node did not do what it was asked for"
    HL7 = -947, "an HL7 message cannot be sent or understood"
    LOCKED = -948, "a study is locked by somebody else"
    TASK = -949, "a task, or its schedule, cannot be"
    HTTP = -950, "an HTTP service did not do what it was asked for"
    HTTP_CONNECTION = -951, "no connection to an HTTP service"
    SHARING = -955, "a study cannot be shared, or what was shared cannot be fetched"
    PIXELS = -960, "a picture cannot be made"
    DOCUMENT = -961, "a document, or what is drawn on pictures, cannot be made"
    FILE_SET = -962, "a file-set (DICOMDIR) cannot be made or read"
    DEIDENTIFICATION = -963, "an object cannot be de-identified"
    VALIDATION = -964, "an object cannot be validated, or is refused for what it lacks"
    AI = -965, "an AI service did not do what it was asked for"


#: First code of each area → its heading, for whoever lists them.
AREAS: Final = {
    ErrorCode.FILE_NOT_FOUND: "Files",
    ErrorCode.ELEMENT_NOT_FOUND: "Elements",
    ErrorCode.DECODING: "Encoding",
    ErrorCode.ASSOCIATION_REJECTED: "Associations",
    ErrorCode.STORING: "Storage",
    ErrorCode.STORE_NO_HANDLER: "C-STORE",
    ErrorCode.FIND_NO_HANDLER: "C-FIND",
    ErrorCode.RETRIEVE_NO_HANDLER: "C-MOVE and C-GET",
    ErrorCode.ECHO_UNEXPECTED_COMMAND: "C-ECHO",
    ErrorCode.STEP_NO_HANDLER: "Performed procedure steps and storage commitment",
    ErrorCode.WORKLIST_NO_HANDLER: "Worklist, attributes, print",
    ErrorCode.NOT_ESTABLISHED: "In general, and unified procedure steps",
    ErrorCode.ARGUMENTS: "Commands and settings",
    ErrorCode.PERMISSION: "Security",
    ErrorCode.BACKUP: "Archive and workflow",
    ErrorCode.HTTP: "Web services",
    ErrorCode.PIXELS: "Pictures and documents",
}
