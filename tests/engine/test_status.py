"""Statuses and their classes (PS3.7 Annex C), compared with a second, hand-typed list."""

from __future__ import annotations

import pytest
from pynetdicom import status as theirs
from pynetdicom.status import GENERAL_STATUS, code_to_category

from isocenter.engine.dimse.status import (
    MEANINGS,
    ServiceClass,
    Status,
    StatusClass,
    classify,
    describe_status,
    is_final,
    service_class_of,
)

#: Status: class and a word of its description.
KNOWN = {
    0x0000: ("success", "success"),
    0x0001: ("warning", "optional"),
    0x0105: ("failure", "no such attribute"),
    0x0106: ("failure", "invalid attribute value"),
    0x0107: ("warning", "attribute list error"),
    0x0110: ("failure", "processing failure"),
    0x0111: ("failure", "duplicate SOP instance"),
    0x0112: ("failure", "no such SOP instance"),
    0x0113: ("failure", "no such event type"),
    0x0114: ("failure", "no such argument"),
    0x0115: ("failure", "invalid argument value"),
    0x0116: ("warning", "out of range"),
    0x0117: ("failure", "invalid SOP instance"),
    0x0118: ("failure", "no such SOP class"),
    0x0119: ("failure", "class-instance conflict"),
    0x0120: ("failure", "missing attribute"),
    0x0121: ("failure", "missing attribute value"),
    0x0122: ("failure", "SOP class not supported"),
    0x0123: ("failure", "no such action"),
    0x0124: ("failure", "not authorized"),
    0x0210: ("failure", "duplicate invocation"),
    0x0211: ("failure", "unrecognized operation"),
    0x0212: ("failure", "mistyped argument"),
    0x0213: ("failure", "resource limitation"),
    0xA700: ("failure", "out of resources"),
    0xA701: ("failure", "number of matches"),
    0xA702: ("failure", "sub-operations"),
    0xA801: ("failure", "destination unknown"),
    0xA900: ("failure", "does not match SOP class"),
    0xB000: ("warning", "warning"),
    0xB006: ("warning", "discarded"),
    0xB007: ("warning", "does not match"),
    0xC000: ("failure", "cannot understand"),
    0xC001: ("failure", "unable to process"),
    0xFE00: ("cancel", "cancel"),
    0xFF00: ("pending", "pending"),
    0xFF01: ("pending", "pending"),
}
#: Statuses whose low bits are the implementation's.
RANGES = {
    0xA7FE: ("failure", "out of resources"),
    0xA9FF: ("failure", "does not match SOP class"),
    0xA123: ("failure", "failure"),
    0xBABE: ("warning", "warning"),
    0xCAFE: ("failure", "cannot understand"),
    0x4242: ("failure", "unknown"),
    0xFF02: ("failure", "unknown"),
}


@pytest.mark.parametrize("status", KNOWN | RANGES)
def test_class_and_words(status: int) -> None:
    kind, words = (KNOWN | RANGES)[status]
    assert classify(status) is StatusClass(kind)
    assert words in describe_status(status)


def test_every_name_is_known() -> None:
    assert {int(status) for status in Status} == set(KNOWN)


def test_every_16_bit_value_has_a_class_and_words() -> None:
    for status in range(1 << 16):
        assert isinstance(classify(status), StatusClass)
        assert describe_status(status)


@pytest.mark.parametrize("status", GENERAL_STATUS)
def test_pynetdicom_agrees(status: int) -> None:
    assert classify(status).value == code_to_category(status).lower()


# What a service class says (PS3.4).

#: Typed a second time: service class, status, words.
BY_SERVICE = """
STORAGE 0000 success
STORAGE A700 out of resources
STORAGE A7FF out of resources
STORAGE A9CC does not match SOP class
STORAGE B000 coercion
STORAGE B006 discarded
STORAGE B007 does not match SOP class
STORAGE C123 cannot understand
STORAGE 0117 invalid SOP instance
FIND A900 identifier does not match
FIND B001 response limit
FIND C123 unable to process
FIND FE00 matching terminated
FIND FF00 matches are continuing
FIND FF01 optional keys not supported
MOVE A701 number of matches
MOVE A702 perform sub-operations
MOVE A801 destination unknown
MOVE AA02 extract frames
MOVE B000 with failures or warnings
MOVE FE00 sub-operations terminated
MOVE FF00 sub-operations are continuing
GET B000 with failures or warnings
GET C001 unable to process
GET AA04 invalid request
WORKLIST FF01 optional keys not supported
PROCEDURE_STEP 0110 A710H
PROCEDURE_STEP 0106 invalid attribute value
STORAGE_COMMITMENT 0131 duplicate transaction UID
STORAGE_COMMITMENT 0112 no such object instance
PRINT B604 demagnified
PRINT B60A decimated
PRINT C601 queue is full
PRINT C6FF cannot understand or process
PRINT 0213 resource limitation
UNIFIED_PROCEDURE_STEP B304 already CANCELED
UNIFIED_PROCEDURE_STEP B306 already COMPLETED
UNIFIED_PROCEDURE_STEP C302 already IN PROGRESS
UNIFIED_PROCEDURE_STEP C310 not yet IN PROGRESS
UNIFIED_PROCEDURE_STEP C315 event reports
UNIFIED_PROCEDURE_STEP C3FF unable to process
UNIFIED_PROCEDURE_STEP FF00 matches are continuing
VERIFICATION 0122 SOP class not supported
VERIFICATION 0211 unrecognized operation
"""


@pytest.mark.parametrize("line", BY_SERVICE.strip().splitlines())
def test_words_of_a_service(line: str) -> None:
    service, status, words = line.split(maxsplit=2)
    assert words in describe_status(int(status, 16), ServiceClass[service])


def test_words_of_one_service_are_not_given_to_another() -> None:
    assert "coercion" not in describe_status(0xB000, ServiceClass.MOVE)
    assert "sub-operations" not in describe_status(0xB000, ServiceClass.STORAGE)
    assert describe_status(0xB055, ServiceClass.STORAGE) == "warning"
    assert describe_status(0xFF55, ServiceClass.FIND) == "unknown status"
    assert describe_status(0xC302, ServiceClass.PRINT) == describe_status(0xC302)


@pytest.mark.parametrize("service", ServiceClass)
def test_every_16_bit_value_has_words_in_every_service(service: ServiceClass) -> None:
    for status in range(1 << 16):
        assert describe_status(status, service)


@pytest.mark.parametrize("service", ServiceClass)
def test_words_of_a_warning_say_so(service: ServiceClass) -> None:
    """And only those: B000H of a retrieve tells how it ended, as the standard does."""
    for status, words in MEANINGS[service].items():
        if words.startswith("warning"):
            assert classify(status) is StatusClass.WARNING
        elif classify(status) is StatusClass.WARNING:
            assert (service, status) in {(ServiceClass.MOVE, 0xB000), (ServiceClass.GET, 0xB000)}


#: Our service classes in pynetdicom's tables.
THEIRS = {
    ServiceClass.STORAGE: theirs.STORAGE_SERVICE_CLASS_STATUS,
    ServiceClass.FIND: theirs.QR_FIND_SERVICE_CLASS_STATUS,
    ServiceClass.MOVE: theirs.QR_MOVE_SERVICE_CLASS_STATUS,
    ServiceClass.GET: theirs.QR_GET_SERVICE_CLASS_STATUS,
    ServiceClass.WORKLIST: theirs.MODALITY_WORKLIST_SERVICE_CLASS_STATUS,
    ServiceClass.PROCEDURE_STEP: theirs.PROCEDURE_STEP_STATUS,
    ServiceClass.PRINT: theirs.PRINT_JOB_MANAGEMENT_SERVICE_CLASS_STATUS,
    ServiceClass.UNIFIED_PROCEDURE_STEP: theirs.UNIFIED_PROCEDURE_STEP_SERVICE_CLASS_STATUS,
}


@pytest.mark.parametrize("service", THEIRS)
def test_pynetdicom_knows_no_more(service: ServiceClass) -> None:
    """Each status of its tables has the same class here, and words of the service or of PS3.7."""
    for status, (category, _) in THEIRS[service].items():
        assert classify(status).value == category.lower()
        assert describe_status(status, service) != "unknown status"
        if status not in GENERAL_STATUS and status & 0xF000 not in (0xC000, 0xA000):
            assert status in MEANINGS[service] or status == Status.WARNING


def test_what_ends_an_operation() -> None:
    assert [status for status in range(1 << 16) if not is_final(status)] == [0xFF00, 0xFF01]


@pytest.mark.parametrize(
    ("sop_class_uid", "service"),
    [
        ("1.2.840.10008.1.1", ServiceClass.VERIFICATION),
        ("1.2.840.10008.1.20.1", ServiceClass.STORAGE_COMMITMENT),
        ("1.2.840.10008.3.1.2.3.3", ServiceClass.PROCEDURE_STEP),
        ("1.2.840.10008.5.1.1.9", ServiceClass.PRINT),
        ("1.2.840.10008.5.1.4.31", ServiceClass.WORKLIST),
        ("1.2.840.10008.5.1.4.34.6.3", ServiceClass.UNIFIED_PROCEDURE_STEP),
        ("1.2.840.10008.5.1.4.1.1.2", None),
        ("", None),
    ],
)
def test_the_service_class_of_a_sop_class(sop_class_uid: str, service: ServiceClass | None) -> None:
    assert service_class_of(sop_class_uid) is service
