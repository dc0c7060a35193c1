"""Audit messages as XML: by the schema, and whatever peers call themselves."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.security.audit import codes
from isocenter.services.security.audit.codes import EventId, EventType
from isocenter.services.security.audit.hash_chain import (
    Position,
    Record,
    RecordDigest,
    decode_record,
    encode_record,
)
from isocenter.services.security.audit.messages import (
    Action,
    AuditMessage,
    AuditSource,
    ObjectKind,
    Outcome,
    Participant,
    ParticipantObject,
    timestamp,
    to_xml,
)
from isocenter.services.security.audit.syslog_format import octet_counted, syslog_message
from isocenter.services.security.audit.trail_writer import entry_of
from services.security.audit.trails import parsed

SOURCE = AuditSource(source_id="ARCHIVE", site_id="Hospital")


def message(text: str, data: bytes = b"") -> AuditMessage:
    """A message with *text* wherever somebody else has a say."""
    return AuditMessage(
        event=EventId.QUERY,
        type=EventType.LOGIN,
        action=Action.EXECUTE,
        description=text,
        participants=(
            Participant(
                user_id=text,
                ae_titles=(text, "CT1"),
                user_name=text,
                is_requestor=True,
                role=codes.SOURCE,
                access_point=text,
                media=codes.MEDIA_URI,
            ),
        ),
        objects=(
            ParticipantObject(
                kind=ObjectKind.PATIENT,
                id=text,
                id_type=codes.PATIENT_NUMBER,
                name=text,
                details={"Alert Description": data},
                sop_classes={text: 3, "": 1},
                is_encrypted=True,
            ),
            ParticipantObject(
                kind=ObjectKind.REPORT, id=text, id_type=codes.SOP_CLASS_UID, query=data
            ),
        ),
    )


@given(st.text(), st.binary())
def test_no_text_of_a_peer_leaves_its_place(text: str, data: bytes) -> None:
    xml = to_xml(message(text, data), SOURCE)
    assert xml.isascii()
    assert xml.isprintable()
    root = parsed(xml)
    patient, query = root.findall("ParticipantObjectIdentification")
    (who,) = root.findall("ActiveParticipant")
    readable = who.get("UserID")
    if text.isprintable() or not any(c < " " or not c.isprintable() for c in text):
        assert readable == text
    assert [patient.get("ParticipantObjectID"), query.get("ParticipantObjectID")] == [readable] * 2
    assert who.get("AlternativeUserID") == f"AETITLES={readable};CT1"
    assert (patient.findtext("ParticipantObjectName") or "") == readable
    assert (root.findtext("EventIdentification/EventOutcomeDescription") or "") == readable
    assert base64.b64decode(query.findtext("ParticipantObjectQuery")) == data
    assert len(root) == 5


@given(st.text(st.sampled_from("\r\n\t\0\x1b\x7f\x85\u2028 <>&\"'ÄA]")))
def test_no_text_of_a_peer_ends_a_record_or_a_syslog_message(text: str) -> None:
    entry = entry_of(message(text), SOURCE, 7)
    line, _ = encode_record(entry, Position(), RecordDigest())
    assert line.count(b"\n") == 1
    record = decode_record(line, RecordDigest())
    assert record.entry.message == entry.message
    sent = syslog_message(record, "host\r\nname <34>1")
    header, _, body = sent.partition(b" - <?xml")
    assert header == b"<85>1 %b hostname<34>1 isocenter 7 DICOM+RFC3881" % entry.time.encode()
    assert sent.isascii()
    assert not any(byte < 0x20 or byte == 0x7F for byte in sent)
    assert b"<?xml" + body == entry.message.encode()
    assert octet_counted(sent) == str(len(sent)).encode() + b" " + sent


def test_control_characters_are_shown() -> None:
    root = parsed(to_xml(message("A\x00B\nC\u2028\ud800"), SOURCE))
    assert root.find("ActiveParticipant").get("UserID") == r"A\x00B\x0aC\x2028\xd800"


def test_an_access_point_is_a_name_or_an_address() -> None:
    for text, kind in (("10.0.0.7", "2"), ("fe80::1%eth0", "2"), ("ct1.example.org", "1")):
        participant = parsed(to_xml(message(text), SOURCE)).find("ActiveParticipant")
        assert participant.get("NetworkAccessPointTypeCode") == kind
        assert participant.get("NetworkAccessPointID") == text


def test_the_source_says_what_it_is() -> None:
    source = parsed(to_xml(message("x"), SOURCE)).find("AuditSourceIdentification")
    assert dict(source.attrib) == {"AuditEnterpriseSiteID": "Hospital", "AuditSourceID": "ARCHIVE"}
    assert source.find("AuditSourceTypeCode").get("csd-code") == "4"


def test_times_are_in_utc() -> None:
    time = datetime(2026, 11, 21, 1, 2, 3, 4, timezone(timedelta(hours=2)))
    assert timestamp(time) == "2026-11-20T23:02:03.000004Z"
    assert timestamp(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000000Z"


def test_what_failed_is_a_warning_to_syslog() -> None:
    for outcome, priority in ((Outcome.SUCCESS, b"<85>1 "), (Outcome.MINOR_FAILURE, b"<84>1 ")):
        made = AuditMessage(
            event=EventId.QUERY, action=Action.EXECUTE, participants=(), outcome=outcome
        )
        record = Record(1, "", "", False, entry_of(made, SOURCE, 7))
        assert syslog_message(record, "vm").startswith(priority)
