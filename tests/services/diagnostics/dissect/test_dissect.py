"""Conversations read by the engine: states, faults with their clause, and no PHI."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import sys
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.streams import mutated, streams
from engine.wire import (
    A_ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    CT,
    ECHO_CONTEXT,
    PDUS,
    RELEASE_RP,
    RELEASE_RQ,
    REQUEST,
    STORE_CONTEXT,
    UNRECOGNIZED,
    Wire,
    abort_pdu,
    answer,
    p_data,
    pdu_of,
    pdv,
)
from isocenter.engine import pdu
from isocenter.engine.commands import Abort, AcceptRelease, RequestRelease, SendMessage
from isocenter.engine.dataset import EXPLICIT_LITTLE, Element, write_data_set
from isocenter.engine.dimse.message_codec import (
    CCancelRequest,
    CEchoRequest,
    CEchoResponse,
    CFindRequest,
    CFindResponse,
    CStoreRequest,
    CStoreResponse,
    Message,
    encode_message,
)
from isocenter.engine.effects import Effect, SendBytes
from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.items import AsynchronousOperationsWindow, ContextResult, ProposedContext
from isocenter.engine.negotiation import Acceptor, Offer, Role, negotiate
from isocenter.engine.pdv import encode_fragments
from isocenter.engine.states import Sta
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services.cli import main
from isocenter.services.diagnostics import findings as diagnosis
from isocenter.services.diagnostics.capture import Recorder
from isocenter.services.diagnostics.dissect.capture_events import (
    BytesCaptured,
    BytesMissing,
    Captured,
    CaptureEnded,
    ConnectionClosed,
    ConnectionOpened,
)
from isocenter.services.diagnostics.dissect.lines import Kind, Line
from isocenter.services.diagnostics.dissect.observer import Observer
from isocenter.services.diagnostics.dissect.tcp_reassembly import (
    ACK,
    FIN,
    RST,
    SYN,
    Reassembler,
    Segment,
)
from isocenter.services.diagnostics.findings import Finding, Severity
from support.processes import run, served_archive
from support.studies import write_studies

R, A = Role.REQUESTOR, Role.ACCEPTOR
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
FIND_CONTEXT = 7
NAME = b"Mustermann^Erika"
STATES = {R: "requestor", A: "acceptor"}

ECHO_RQ = CEchoRequest(message_id=1, affected_sop_class_uid=VERIFICATION)
ECHO_RSP = CEchoResponse(message_id_being_responded_to=1, status=0)
STORE_RQ = CStoreRequest(
    message_id=2, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3.4"
)
STORE_RSP = CStoreResponse(message_id_being_responded_to=2, status=0)
FIND_RQ = CFindRequest(message_id=3, affected_sop_class_uid=FIND)

Said = tuple[Role, bytes]


def message(
    what: Message,
    context_id: int = ECHO_CONTEXT,
    data_set: bytes | None = None,
    *,
    max_length: int = 16_384,
) -> bytes:
    """A message as P-DATA-TFs."""
    parts = encode_fragments(
        context_id,
        encode_message(what, has_data_set=data_set is not None),
        is_command=True,
        is_last=True,
        max_length=max_length,
    )
    if data_set is not None:
        parts += encode_fragments(
            context_id, data_set, is_command=False, is_last=True, max_length=max_length
        )
    return b"".join(parts)


#: Everything that a well-behaved conversation begins and ends with.
BEGIN: list[Said] = [(R, ASSOCIATE_RQ), (A, ASSOCIATE_AC)]
END: list[Said] = [(R, RELEASE_RQ), (A, RELEASE_RP)]


def observed(said: Iterable[Said], **options: Any) -> list[Line]:
    observer = Observer(**options)
    lines = []
    for sender, data in said:
        lines += observer.observe(sender, data)
    return lines + observer.ended()


def findings(lines: Iterable[Line], *severities: Severity) -> list[Finding]:
    return [
        finding
        for line in lines
        for finding in line.findings
        if not severities or finding.severity in severities
    ]


def errors(lines: Iterable[Line]) -> list[str]:
    return [finding.text for finding in findings(lines, Severity.ERROR)]


def the_error(lines: Iterable[Line]) -> Finding:
    (found,) = findings(lines, Severity.ERROR)
    return found


def states(lines: Iterable[Line]) -> list[str]:
    return [f"{line.requestor} {line.acceptor}" for line in lines]


# A conversation without fault.


def test_both_sides_go_through_table_9_10() -> None:
    lines = observed([*BEGIN, (R, message(ECHO_RQ)), (A, message(ECHO_RSP)), *END])
    assert states(lines) == [
        "Sta5 Sta3",
        "Sta6 Sta6",
        "Sta6 Sta6",
        "Sta6 Sta6",
        "Sta7 Sta8",
        "Sta1 Sta13",
    ]
    assert [line.text.split(":")[0].split(" from")[0] for line in lines] == [
        "A-ASSOCIATE-RQ",
        "A-ASSOCIATE-AC",
        "C-ECHO-RQ 1",
        "C-ECHO-RSP to 1",
        "A-RELEASE-RQ",
        "A-RELEASE-RP",
    ]
    assert errors(lines) == []


def test_who_closes_after_the_release_ends_it_in_sta1() -> None:
    observer = Observer()
    for sender, data in [*BEGIN, *END]:
        observer.observe(sender, data)
    (line,) = observer.closed(R, 3.0)
    assert (line.requestor, line.acceptor, line.findings) == (Sta.STA1, Sta.STA1, ())
    assert observer.ended() == []


def test_presentation_contexts_are_listed_with_their_results() -> None:
    request, accept, *_ = observed(BEGIN)
    assert request.details[0] == (
        "context 1: Verification SOP Class (1.2.840.10008.1.1): Implicit VR Little Endian"
    )
    assert accept.details[1].endswith("accepted, Explicit VR Little Endian")
    assert accept.details[2] == "context 5: 1.2.3.4: abstract syntax not supported"
    (found,) = accept.findings
    assert found.severity is Severity.WARNING
    assert found.clause == "PS3.8 9.3.3.2"
    assert "switch it on there" in found.cure


def test_a_data_set_is_measured_and_a_fragment_never_kept() -> None:
    stored = message(STORE_RQ, STORE_CONTEXT, bytes(100_000))
    lines = observed([*BEGIN, (R, stored), (A, message(STORE_RSP, STORE_CONTEXT)), *END])
    (line,) = [line for line in lines if line.kind is Kind.DATA_SET]
    assert line.text == (
        "data set of C-STORE-RQ 2: 100000 bytes, Explicit VR Little Endian (1.2.840.10008.1.2.1), "
        "in P-DATA-TFs of up to 16384 bytes"
    )
    assert line.details == ()


def test_a_large_object_is_not_gathered() -> None:
    observer = Observer()
    for sender, data in BEGIN:
        observer.observe(sender, data)
    observer.observe(R, message(STORE_RQ, STORE_CONTEXT, b"")[: -len(p_data(pdv(1, 2, b"")))])
    piece = p_data(pdv(STORE_CONTEXT, 0, bytes(100_000)))
    observer.observe(R, piece)
    tracemalloc.start()
    for _ in range(500):
        assert observer.observe(R, piece) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
    (line,) = observer.observe(R, p_data(pdv(STORE_CONTEXT, 2, b"ab")))
    assert "50100002 bytes" in line.text


def test_pdvs_have_lines_when_they_are_wanted() -> None:
    lines = observed([*BEGIN, (R, message(ECHO_RQ))], show_pdvs=True)
    assert [(line.kind, line.text) for line in lines[2:4]] == [
        (Kind.PDU, "P-DATA-TF of 74 bytes"),
        (Kind.PDV, "PDV on context 1, command, 68 bytes"),
    ]


def test_a_uid_that_is_none_is_shown_as_it_came() -> None:
    """Filters turn pydicom's warning about it into an exception here."""
    strange = ASSOCIATE_RQ.replace(b"1.2.840.10008.1.2.1", b"1.2.840.00008.1.2.1")
    assert strange != ASSOCIATE_RQ
    assert "1.2.840.00008.1.2.1" in observed([(R, strange)])[0].details[1]


# PHI.


def find_conversation() -> list[Said]:
    request = pdu.AssociateRequest(
        called_ae_title="ISOCENTER",
        calling_ae_title="WS1",
        presentation_contexts=(ProposedContext(FIND_CONTEXT, FIND, (EXPLICIT_VR_LITTLE_ENDIAN,)),),
        user_information=REQUEST.user_information,
    )
    accept = negotiate(
        request,
        Acceptor(
            offer=lambda uid: Offer(transfer_syntaxes=(EXPLICIT_VR_LITTLE_ENDIAN,)),
            max_pdu_length=16_384,
        ),
    )
    assert isinstance(accept, pdu.AssociateAccept)
    identifier = write_data_set(
        [
            Element(0x00080052, "CS", b"STUDY "),
            Element(0x00100010, "PN", NAME),
            Element(0x00280010, "US", b"\x00\x02"),
            Element(0x00400275, "SQ", ({0x00400007: Element(0x00400007, "LO", b"Knee")},)),
        ],
        EXPLICIT_LITTLE,
    )
    pending = CFindResponse(message_id_being_responded_to=3, status=0xFF00)
    final = CFindResponse(
        message_id_being_responded_to=3, status=0xC000, error_comment="no Mustermann^Erika"
    )
    return [
        (R, pdu.encode_associate_request(request)),
        (A, pdu.encode_associate_accept(accept)),
        (R, message(FIND_RQ, FIND_CONTEXT, identifier)),
        (A, message(pending, FIND_CONTEXT, identifier)),
        (A, message(final, FIND_CONTEXT)),
        *END,
    ]


def test_identifiers_show_tags_and_lengths_and_no_values() -> None:
    lines = observed(find_conversation())
    (details, _) = [line.details for line in lines if line.kind is Kind.DATA_SET]
    assert details == (
        "(0008,0052) CS QueryRetrieveLevel: 6 bytes",
        "(0010,0010) PN PatientName: 16 bytes",
        "(0028,0010) US Rows: 2 bytes",
        "(0040,0275) SQ RequestAttributesSequence: 1 item",
        "  (0040,0007) LO ScheduledProcedureStepDescription: 4 bytes",
    )
    assert "Mustermann" not in repr(lines)
    assert "Knee" not in repr(lines)


def test_values_are_shown_to_whoever_asks_for_phi() -> None:
    lines = observed(find_conversation(), show_phi=True)
    details = next(line.details for line in lines if line.kind is Kind.DATA_SET)
    assert details == (
        "(0008,0052) CS QueryRetrieveLevel: 6 bytes = 'STUDY'",
        "(0010,0010) PN PatientName: 16 bytes = 'Mustermann^Erika'",
        "(0028,0010) US Rows: 2 bytes = '512'",
        "(0040,0275) SQ RequestAttributesSequence: 1 item",
        "  (0040,0007) LO ScheduledProcedureStepDescription: 4 bytes = 'Knee'",
    )


def test_a_failure_status_is_an_error_without_the_peers_comment() -> None:
    found = the_error(observed(find_conversation()))
    assert found.text.startswith("C-FIND-RSP to 3: C000H")
    assert "error comment of 19 characters" in found.text
    assert found.clause == "PS3.7 Annex C"


# What goes wrong.


@pytest.mark.parametrize(
    ("said", "text", "clause"),
    [
        pytest.param(
            [(R, ASSOCIATE_RQ), (A, ASSOCIATE_RJ)],
            "the association was rejected: called AE title not recognized",
            "PS3.8 9.3.4",
            id="reject",
        ),
        pytest.param(
            [*BEGIN, (A, A_ABORT)],
            "the application of the association acceptor aborted",
            "PS3.8 9.3.8",
            id="abort of the user",
        ),
        pytest.param(
            [*BEGIN, (A, abort_pdu(2, 2))],
            "the upper layer of the association acceptor aborted: unexpected PDU",
            "PS3.8 9.3.8",
            id="abort of the provider",
        ),
        pytest.param(
            [*BEGIN, (R, ASSOCIATE_RQ)],
            "the association requestor broke the protocol: A-ASSOCIATE-RQ in Sta6",
            "PS3.8 Table 9-10",
            id="A-ASSOCIATE-RQ twice",
        ),
        pytest.param(
            [(R, ASSOCIATE_RQ), (R, message(ECHO_RQ))],
            "the association requestor broke the protocol: P-DATA-TF in Sta3",
            "PS3.8 Table 9-10",
            id="data before the answer",
        ),
        pytest.param(
            [*BEGIN, (R, RELEASE_RQ), (R, message(ECHO_RQ)), (A, RELEASE_RP)],
            "the association requestor broke the protocol: P-DATA-TF in Sta8",
            "PS3.8 Table 9-10",
            id="data after A-RELEASE-RQ",
        ),
        pytest.param(
            [*BEGIN, (A, RELEASE_RP)],
            "the association acceptor broke the protocol: A-RELEASE-RP in Sta6",
            "PS3.8 Table 9-10",
            id="A-RELEASE-RP to nothing",
        ),
        pytest.param(
            [*BEGIN, (R, message(ECHO_RQ, 9))],
            "the association requestor broke the protocol: P-DATA-TF on presentation context 9",
            "PS3.8 9.3.5.1",
            id="context that was not accepted",
        ),
        pytest.param(
            [*BEGIN, (R, message(STORE_RQ, STORE_CONTEXT, bytes(140_000), max_length=135_000))],
            "the association requestor broke the protocol: P-DATA-TF announces 135000 bytes",
            "PS3.8 D.1",
            id="more than the maximum length",
        ),
        pytest.param(
            [*BEGIN, (A, message(ECHO_RSP))],
            "the association acceptor broke the protocol: C-ECHO-RSP to Message ID 1",
            "PS3.7 9.1",
            id="response to nothing",
        ),
        pytest.param(
            [*BEGIN, (R, message(STORE_RQ, STORE_CONTEXT, b"")), (R, message(STORE_RQ, 3, b""))],
            "the association requestor broke the protocol: Message ID 2 is outstanding",
            "PS3.7 9.1",
            id="Message ID twice",
        ),
        pytest.param(
            [*BEGIN, (R, message(ECHO_RQ)), (R, message(STORE_RQ, STORE_CONTEXT, b""))],
            "the association requestor has 2 operations outstanding; the asynchronous operations "
            "window allows 1",
            "PS3.7 D.3.3.3",
            id="more than the window",
        ),
        pytest.param(
            [*BEGIN, (R, UNRECOGNIZED)],
            "the association requestor broke the protocol: unrecognized PDU type 5AH",
            "PS3.8 9.3.1",
            id="no PDU",
        ),
        pytest.param(
            [*BEGIN, (R, p_data(pdv(STORE_CONTEXT, 2, b"xx")))],
            "the association requestor broke the protocol: a data set fragment before the command",
            "PS3.8 E",
            id="data set without command",
        ),
        pytest.param(
            [(R, pdu_of(1, bytes(68)))],
            "the association requestor broke the protocol",
            "",
            id="A-ASSOCIATE-RQ of zeros",
        ),
    ],
)
def test_a_fault_is_named_with_its_clause(said: list[Said], text: str, clause: str) -> None:
    found = the_error(observed(said))
    assert found.text.startswith(text)
    if clause:
        assert found.clause == clause


def test_nothing_accepted_is_an_error() -> None:
    accept = answer(acceptor=Acceptor(offer=lambda uid: None, max_pdu_length=16_384))
    lines = observed([(R, ASSOCIATE_RQ), (A, pdu.encode_associate_accept(accept))])
    assert errors(lines) == ["no presentation context was accepted"]
    assert len(findings(lines, Severity.WARNING)) == 3


def test_one_accepted_context_of_a_sop_class_is_enough() -> None:
    """Most requestors propose one context for each transfer syntax, and count on one."""
    request = pdu.AssociateRequest(
        called_ae_title="A",
        calling_ae_title="B",
        presentation_contexts=(
            ProposedContext(1, CT, (EXPLICIT_VR_LITTLE_ENDIAN,)),
            ProposedContext(3, CT, ("1.2.840.10008.1.2.4.90",)),
        ),
        user_information=REQUEST.user_information,
    )
    accept = pdu.AssociateAccept(
        called_ae_title="A",
        calling_ae_title="B",
        presentation_contexts=(
            ContextResult(1, 0, EXPLICIT_VR_LITTLE_ENDIAN),
            ContextResult(3, 4, "1.2.840.10008.1.2.4.90"),
        ),
        user_information=REQUEST.user_information,
    )
    assert diagnosis.of_contexts(request, accept, str) == []


def test_a_context_that_was_never_proposed_is_the_acceptors_fault() -> None:
    accept = pdu.AssociateAccept(
        called_ae_title="ISOCENTER",
        calling_ae_title="CT1",
        presentation_contexts=(ContextResult(99, 0, EXPLICIT_VR_LITTLE_ENDIAN),),
        user_information=REQUEST.user_information,
    )
    lines = observed([(R, ASSOCIATE_RQ), (A, pdu.encode_associate_accept(accept))])
    assert "accepts presentation context 99" in errors(lines)[0]


# Both at once.


def test_release_collision_goes_through_its_states() -> None:
    """Both ask before either has read (PS3.8 7.2.2.7): no fault of anybody."""
    lines = observed([*BEGIN, (R, RELEASE_RQ), (A, RELEASE_RQ), (R, RELEASE_RP), (A, RELEASE_RP)])
    assert states(lines)[2:] == ["Sta7 Sta8", "Sta9 Sta10", "Sta11 Sta12", "Sta1 Sta13"]
    assert errors(lines) == []


def test_data_that_crosses_a_release_request_is_no_fault() -> None:
    said = [
        *BEGIN,
        (R, message(ECHO_RQ)),
        (R, RELEASE_RQ),
        (A, message(ECHO_RSP)),
        (A, RELEASE_RP),
    ]
    assert errors(observed(said)) == []


def test_what_crosses_an_abort_is_no_fault() -> None:
    lines = observed([*BEGIN, (R, message(ECHO_RQ)), (R, A_ABORT), (A, message(ECHO_RSP))])
    assert errors(lines) == ["the application of the association requestor aborted"]
    assert states(lines)[-2:] == ["Sta13 Sta1"] * 2


def test_a_cancel_that_crosses_the_final_response_is_a_note() -> None:
    said = find_conversation()[:2]
    final = CFindResponse(message_id_being_responded_to=3, status=0)
    said += [
        (R, message(FIND_RQ, FIND_CONTEXT, b"")),
        (A, message(final, FIND_CONTEXT)),
        (R, message(CCancelRequest(message_id_being_responded_to=3), FIND_CONTEXT)),
        *END,
    ]
    lines = observed(said)
    assert [f.text for f in findings(lines)] == [
        "C-CANCEL-RQ of 3 came after the final response; they may have crossed"
    ]


def test_operations_within_the_negotiated_window_are_no_fault() -> None:
    window = AsynchronousOperationsWindow(2, 2)
    information = replace(REQUEST.user_information, asynchronous_operations_window=window)
    request = replace(REQUEST, user_information=information)
    accept = answer(
        request,
        Acceptor(
            offer=lambda uid: Offer(transfer_syntaxes=(EXPLICIT_VR_LITTLE_ENDIAN,)),
            max_pdu_length=16_384,
            max_operations_performed=2,
            max_operations_invoked=2,
        ),
    )
    said = [
        (R, pdu.encode_associate_request(request)),
        (A, pdu.encode_associate_accept(accept)),
        (R, message(STORE_RQ, STORE_CONTEXT, b"")),
        (R, message(replace(STORE_RQ, message_id=5), STORE_CONTEXT, b"")),
        (A, message(replace(STORE_RSP, message_id_being_responded_to=5), STORE_CONTEXT)),
        (A, message(STORE_RSP, STORE_CONTEXT)),
        *END,
    ]
    assert findings(observed(said), Severity.ERROR) == []


# Peers that are more patient than the standard.


def test_a_message_that_is_not_understood_is_one_fault_however_long_it_is() -> None:
    data = [(R, p_data(pdv(STORE_CONTEXT, 0, bytes(500)))) for _ in range(20)]
    lines = observed([*BEGIN, *data, (R, message(ECHO_RQ)), (A, message(ECHO_RSP))])
    assert len(errors(lines)) == 1
    assert [line.text.partition(":")[0] for line in lines[2:5]] == [
        "what cannot be read as a message",
        "C-ECHO-RQ 1",
        "C-ECHO-RSP to 1",
    ]


def test_an_abort_that_the_standard_asks_for_is_followed() -> None:
    lines = observed([*BEGIN, (A, message(ECHO_RSP)), (R, abort_pdu(2, 6))])
    assert [(line.requestor, line.acceptor) for line in lines[2:4]] == [
        (Sta.STA13, Sta.STA6),
        (Sta.STA13, Sta.STA1),
    ]
    assert len(errors(lines)) == 2


def test_who_goes_on_is_followed_without_states() -> None:
    said = [
        *BEGIN,
        (R, message(ECHO_RQ, 9)),
        (A, message(ECHO_RSP, 9)),
        (R, message(STORE_RQ, STORE_CONTEXT, b"")),
        (A, message(STORE_RSP, STORE_CONTEXT)),
        *END,
    ]
    lines = observed(said)
    assert [line.text.partition(":")[0] for line in lines[2:]] == [
        "C-ECHO-RQ 1",
        "C-ECHO-RSP to 1",
        "C-STORE-RQ 2",
        "data set of C-STORE-RQ 2",
        "C-STORE-RSP to 2",
        "A-RELEASE-RQ",
        "A-RELEASE-RP",
    ]
    assert any("goes on where the standard asks for A-ABORT" in f.text for f in findings(lines))
    assert lines[-1].acceptor is None


def test_what_the_engine_reads_but_would_not_write_changes_nothing() -> None:
    assert ASSOCIATE_RQ.endswith(b"1.2.3")  # its implementation class UID
    strange = ASSOCIATE_RQ[:-1] + b"x"
    lines = observed([(R, strange), (A, ASSOCIATE_AC), *END])
    assert states(lines) == ["Sta5 Sta3", "Sta6 Sta6", "Sta7 Sta8", "Sta1 Sta13"]
    assert errors(lines) == []


@pytest.mark.parametrize("reserved", ["00 01 02 07", "00 01 01 09"])
def test_a_rejection_beyond_the_table_is_told_all_the_same(reserved: str) -> None:
    lines = observed([(R, ASSOCIATE_RQ), (A, bytes.fromhex("03 00 00000004" + reserved))])
    assert errors(lines) == ["the association was rejected: reserved reason"]
    assert states(lines)[-1] == "Sta1 Sta13"


# Ends.


def test_closing_instead_of_an_answer_is_told_apart() -> None:
    observer = Observer()
    observer.observe(R, ASSOCIATE_RQ)
    found = the_error(observer.closed(A, 5.0))
    assert found.text == "the association acceptor closed instead of answering the A-ASSOCIATE-RQ"
    assert "TLS" in found.cure


def test_a_lost_connection_says_what_was_not_answered_and_who_was_silent() -> None:
    observer = Observer()
    for sender, data in [*BEGIN, (R, message(STORE_RQ, STORE_CONTEXT, b"x" * 10)[:-4])]:
        observer.observe(sender, data, 1.0)
    lines = observer.closed(A, 31.0, was_reset=True) + observer.ended(31.0)
    assert lines[0].text == "the association acceptor reset the connection"
    texts = [finding.text for finding in findings(lines)]
    assert texts == [
        "the association acceptor closed without A-RELEASE or A-ABORT",
        "nothing had come from the association requestor for 30.0 s",
        "the data set of C-STORE-RQ 2 ends after 6 bytes, before its last fragment",
        "C-STORE-RQ 2 of the association requestor was never answered",
    ]


def test_a_capture_that_ends_early_says_so() -> None:
    lines = observed([*BEGIN])
    assert lines[-1].text == "the end"
    assert "the capture ends before the association does" in [f.text for f in findings(lines)]


def test_closing_without_waiting_for_the_release_response_is_a_warning() -> None:
    observer = Observer()
    for sender, data in [*BEGIN, (R, RELEASE_RQ)]:
        observer.observe(sender, data)
    (line,) = observer.closed(R)
    assert [f.severity for f in line.findings] == [Severity.WARNING]


# Gaps.


def test_a_gap_within_a_data_set_is_bridged() -> None:
    stored = message(STORE_RQ, STORE_CONTEXT, bytes(range(256)) * 40)
    observer = Observer()
    lines = []
    for sender, data in [*BEGIN, (R, stored[:2000])]:
        lines += observer.observe(sender, data)
    lines += observer.missing(R, 5000)
    for sender, data in [(R, stored[7000:]), (A, message(STORE_RSP, STORE_CONTEXT)), *END]:
        lines += observer.observe(sender, data)
    assert errors(lines) == []
    assert [f.text for f in findings(lines, Severity.WARNING)][1:] == [
        "5000 bytes of the association requestor are missing from the capture"
    ]
    text = next(line.text for line in lines if line.kind is Kind.DATA_SET)
    assert "10240 bytes" in text
    assert text.endswith("with a gap in the capture")
    assert states(lines)[-1] == "Sta1 Sta13"


def test_behind_a_gap_in_a_header_nothing_is_guessed() -> None:
    observer = Observer()
    lines = []
    for sender, data in [*BEGIN, (R, message(ECHO_RQ)[:10])]:
        lines += observer.observe(sender, data)
    lines += observer.missing(R, 20)
    lines += observer.observe(R, message(ECHO_RQ)[30:])
    lines += observer.observe(A, message(ECHO_RSP))
    lines += observer.ended()
    assert errors(lines) == []
    assert "cannot be read any further" in findings(lines, Severity.WARNING)[1].text
    assert lines[-2].text.startswith("C-ECHO-RSP to 1")
    assert (lines[-2].requestor, lines[-2].acceptor) == (None, None)
    assert f"{len(message(ECHO_RQ)) - 30} bytes of the association requestor were not read" in [
        f.text for f in findings(lines)
    ]


# Properties.


def chunks(draw: st.DrawFn, data: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


answers = st.lists(st.sampled_from([message(ECHO_RSP), *PDUS.values()]), max_size=3).map(
    lambda parts: ASSOCIATE_AC + b"".join(parts)
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[Said], list[Said]]:
    """The same bytes in the same order, whole and in chunks."""
    question = draw(streams() | mutated())
    reply = draw(answers)
    whole = [(R, question), (A, reply)]
    return whole, [(who, part) for who, data in whole for part in chunks(draw, data)]


@given(conversations())
def test_chunks_change_nothing_and_nothing_raises(both: tuple[list[Said], list[Said]]) -> None:
    whole, cut = (
        [(line.text, line.details, line.findings) for line in observed(said)] for said in both
    )
    assert cut == whole


class Tapped(Wire):
    """Two engines, and an observer of what leaves them."""

    def __init__(self) -> None:
        super().__init__()
        self.observer = Observer()
        self.lines: list[Line] = []

    def did(self, end: int, effects: Iterable[Effect]) -> None:
        effects = tuple(effects)
        for effect in effects:
            if isinstance(effect, SendBytes) and self.is_open:
                data = b"".join(map(bytes, effect.buffers))
                self.lines += self.observer.observe((R, A)[end], data)
        super().did(end, effects)

    def close(self, end: int) -> None:
        if self.is_open:
            while self.deliver(1 - end):
                pass
            self.lines += self.observer.closed((R, A)[end])
        super().close(end)

    def act(self, what: str, end: int) -> None:
        """One thing that a service-user or the network may do now; nothing, if it may not."""
        engine = self.ends[end]
        try:
            match what:
                case "deliver":
                    self.deliver(end)
                case "request":
                    number = engine.operations.next_message_id()
                    self.do(end, SendMessage(1, replace(ECHO_RQ, message_id=number)))
                case "respond" if engine.operations.performed:
                    number = next(iter(engine.operations.performed))
                    response = replace(ECHO_RSP, message_id_being_responded_to=number)
                    self.do(end, SendMessage(1, response))
                case "release":
                    self.do(end, RequestRelease())
                case "accept release":
                    self.do(end, AcceptRelease())
                case "abort":
                    self.do(end, Abort())
                case _:
                    pass
        except LocalProtocolError:
            pass


ACTIONS = ["deliver", "request", "respond", "release", "accept release"]


@given(
    st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 1)), max_size=40),
    st.sampled_from([None, 0, 1]),
)
def test_the_observer_knows_the_states_of_two_engines(
    actions: list[tuple[str, int]], aborter: int | None
) -> None:
    """Whatever the two do, and however their bytes cross: no fault is seen where is none."""
    wire = Tapped()
    wire.associate()
    for what, end in actions:
        wire.act(what, end)
    wire.carry()
    wire.lines += wire.observer.observe(R, b"")
    if aborter is not None:
        wire.act("abort", aborter)
        wire.carry()
    found = [wire.observer._sides[role].state for role in (R, A)]
    assert found == list(wire.states)
    assert set(errors(wire.lines)) <= {
        f"the application of the association {name} aborted" for name in STATES.values()
    }


@given(st.lists(st.tuples(st.sampled_from([R, A]), st.sampled_from([*PDUS.values()])), max_size=9))
def test_any_pdus_in_any_order_are_told(said: list[Said]) -> None:
    lines = observed([(R, ASSOCIATE_RQ), *said])
    assert all(len(line.text) < 400 for line in lines)


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("A-RELEASE-RP in Sta6 (association established; PS3.8 Table 9-10)", "PS3.8 Table 9-10"),
        ("too long (PS3.8 9.3.5.1)", "PS3.8 9.3.5.1"),
        ("(PS3.7 D.3.3.3).", "PS3.7 D.3.3.3"),
        ("a violation (PS3.8 E)", "PS3.8 E"),
        ("see PS3.7 Annex C.", "PS3.7 Annex C"),
        ("nothing of the kind", ""),
    ],
)
def test_clauses_are_found_in_the_engines_words(text: str, clause: str) -> None:
    assert diagnosis.clause_in(text) == clause


# TCP.

CLIENT, SERVER = "192.0.2.1:50000", "[2001:db8::1]:104"


class Talk:
    """Segments of one connection, as a network card sees them."""

    def __init__(self, initial: tuple[int, int] = (1000, 2**32 - 300)) -> None:
        self.segments: list[Segment] = []
        self.next = {True: initial[0], False: initial[1]}
        self._add(True, SYN)
        self._add(False, SYN | ACK)

    def _add(self, by_client: bool, flags: int, payload: bytes = b"") -> None:
        source, destination = (CLIENT, SERVER) if by_client else (SERVER, CLIENT)
        self.segments.append(
            Segment(
                len(self.segments) * 0.001,
                source,
                destination,
                self.next[by_client] % 2**32,
                self.next[not by_client] % 2**32 if flags & ACK else 0,
                flags,
                payload,
            )
        )
        self.next[by_client] += len(payload) + bool(flags & (SYN | FIN))

    def say(self, by_client: bool, data: bytes, size: int = 100) -> None:
        for start in range(0, len(data), size):
            self._add(by_client, ACK, data[start : start + size])

    def close(self) -> None:
        self._add(True, FIN | ACK)
        self._add(False, FIN | ACK)
        self._add(True, ACK)


def reassembled(segments: Iterable[Segment]) -> list[Captured]:
    reassembler = Reassembler()
    items = [item for segment in segments for item in reassembler.feed(segment)]
    return items + list(reassembler.finish())


def streams_of(items: Iterable[Captured]) -> dict[bool, bytes]:
    """What was carried each way, with a full stop for each byte that is missing."""
    found = {True: b"", False: b""}
    for item in items:
        if isinstance(item, BytesCaptured):
            found[item.by_client] += item.data
        elif isinstance(item, BytesMissing):
            found[item.by_client] += b"." * item.count
    return found


def talk() -> tuple[Talk, dict[bool, bytes]]:
    """A conversation in turns; the acceptor's sequence numbers begin anew in the middle."""
    random_bytes = random.Random(7).randbytes
    one = Talk()
    said = {True: b"", False: b""}
    for turn in range(8):
        data = bytes(byte | 0x80 for byte in random_bytes(450))
        said[turn % 2 == 0] += data
        one.say(turn % 2 == 0, data)
    one.close()
    return one, said


def test_segments_in_order_are_streams_with_a_beginning_and_ends() -> None:
    one, said = talk()
    items = reassembled(one.segments)
    assert streams_of(items) == said
    assert items[0] == ConnectionOpened(1, 0.0, CLIENT, SERVER, True, at=0.0)
    assert [item.by_client for item in items if isinstance(item, ConnectionClosed)] == [True, False]
    assert isinstance(items[-1], CaptureEnded)


@given(st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(draw: random.Random) -> None:
    one, said = talk()
    segments = one.segments[:2]
    rest = one.segments[2:]
    while rest:
        pair, rest = rest[:2], rest[2:]
        match draw.randrange(4):
            case 0:  # late
                segments += pair[::-1]
            case 1:  # twice
                segments += pair + pair
            case 2 if len(pair) == 2 and pair[0].source == pair[1].source and pair[1].payload:
                # once more, together
                joined = pair[0]._replace(payload=pair[0].payload + pair[1].payload)
                segments += [*pair[:1], joined]
            case _:
                segments += pair
    assert streams_of(reassembled(segments)) == said


@given(st.sets(st.integers(2, 38), max_size=6))
def test_what_was_lost_is_missing_where_it_belongs(lost: set[int]) -> None:
    one, said = talk()
    kept = [segment for number, segment in enumerate(one.segments) if number not in lost]
    found = streams_of(reassembled(kept))
    for side, data in said.items():
        assert len(found[side]) == len(data)
        assert all(got in (byte, ord(".")) for got, byte in zip(found[side], data, strict=True))
        missing = sum(
            len(one.segments[number].payload)
            for number in lost
            if (one.segments[number].source == CLIENT) is side
        )
        assert found[side].count(b".") == missing


def test_what_was_lost_comes_before_the_answer_to_it() -> None:
    one = Talk()
    one.say(True, b"ABCDEF", 2)
    one.say(False, b"answer")
    del one.segments[3]
    order = [
        (type(item), getattr(item, "data", None))
        for item in reassembled(one.segments)
        if isinstance(item, BytesCaptured | BytesMissing)
    ]
    assert order == [
        (BytesCaptured, b"AB"),
        (BytesMissing, None),
        (BytesCaptured, b"EF"),
        (BytesCaptured, b"answer"),
    ]


def test_packets_that_were_cut_short_leave_gaps() -> None:
    one, said = talk()
    cut = [segment._replace(payload=segment.payload[:60]) for segment in one.segments]
    found = streams_of(reassembled(cut))
    assert {side: len(data) for side, data in found.items()} == {
        side: len(data) for side, data in said.items()
    }
    assert found[True].count(b".") == 4 * (4 * 40)


def test_a_reset_ends_both_ways() -> None:
    one = Talk()
    one.say(True, b"question")
    one._add(False, RST | ACK)
    items = reassembled(one.segments)
    assert items[-2:] == [ConnectionClosed(1, 0.003, False, was_reset=True), CaptureEnded(1, 0.003)]


def test_the_same_ports_once_more_are_another_connection() -> None:
    first, second = Talk(), Talk((90_000, 5))
    first.say(True, b"one")
    second.say(True, b"two")
    items = reassembled([*first.segments, *second.segments])
    assert [item.connection for item in items if isinstance(item, ConnectionOpened)] == [1, 2]
    assert [bytes(item.data) for item in items if isinstance(item, BytesCaptured)] == [
        b"one",
        b"two",
    ]


def test_what_began_before_the_capture_says_so() -> None:
    one, _ = talk()
    items = reassembled(one.segments[4:])
    assert isinstance(items[0], ConnectionOpened)
    assert not items[0].is_complete


def test_what_waits_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    from isocenter.services.diagnostics.dissect import tcp_reassembly as tcp_streams

    monkeypatch.setattr(tcp_streams, "_MOST_WAITING", 1000)
    one = Talk()
    one.say(True, bytes(5000))
    del one.segments[2]
    reassembler = Reassembler()
    for segment in one.segments:
        list(reassembler.feed(segment))
    assert reassembler._waiting_bytes <= 1000


# Network captures.


def ip_packet(segment: Segment, version: int) -> Any:
    source, destination = segment.source, segment.destination
    tcp = dpkt.tcp.TCP(
        sport=int(source.rpartition(":")[2]),
        dport=int(destination.rpartition(":")[2]),
        seq=segment.sequence,
        ack=segment.acknowledgement,
        flags=segment.flags,
        data=segment.payload,
    )
    if version == 6:
        hosts = {CLIENT: b"\0" * 15 + b"\1", SERVER: b"\0" * 15 + b"\2"}
        return dpkt.ip6.IP6(
            src=hosts[source], dst=hosts[destination], nxt=6, plen=len(bytes(tcp)), data=tcp
        )
    hosts = {CLIENT: b"\x7f\0\0\1", SERVER: b"\x7f\0\0\2"}
    packet = dpkt.ip.IP(src=hosts[source], dst=hosts[destination], p=6, data=tcp)
    packet.len = len(packet)
    return packet


def frame(link: int, packet: Any) -> bytes:
    is_six = isinstance(packet, dpkt.ip6.IP6)
    ether_type = 0x86DD if is_six else 0x0800
    match link:
        case 0:
            return struct.pack("=I", 24 if is_six else 2) + bytes(packet)
        case 1:
            return bytes(dpkt.ethernet.Ethernet(data=packet, type=ether_type))
        case 113:
            return struct.pack(">HHH8sH", 0, 1, 6, b"", ether_type) + bytes(packet)
        case 276:
            return struct.pack(">HHIHBB8s", ether_type, 0, 1, 1, 0, 6, b"") + bytes(packet)
        case _:
            return bytes(packet)


def write_pcap(
    path: Path, segments: Iterable[Segment], *, link: int = 1, version: int = 4, ng: bool = False
) -> Path:
    with path.open("wb") as file:
        kind = dpkt.pcapng if ng else dpkt.pcap
        writer = kind.Writer(file, snaplen=1 << 18, linktype=link)
        for segment in segments:
            writer.writepkt_time(frame(link, ip_packet(segment, version)), segment.time + 1e9)
    return path


def conversation_of(said: Iterable[Said], size: int = 100) -> Talk:
    one = Talk()
    for sender, data in said:
        one.say(sender is R, data, size)
    one.close()
    return one


GOOD: list[Said] = [
    *BEGIN,
    (R, message(STORE_RQ, STORE_CONTEXT, bytes(3000))),
    (A, message(STORE_RSP, STORE_CONTEXT)),
    *END,
]


def dissected(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["dissect", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def entries(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("ng", [False, True], ids=["pcap", "pcapng"])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", [0, 1, 101, 113, 276])
def test_network_captures_of_every_link_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], link: int, version: int, ng: bool
) -> None:
    segments = conversation_of(GOOD).segments
    path = write_pcap(tmp_path / "a.pcap", segments, link=link, version=version, ng=ng)
    code, out, err = dissected(capsys, path)
    assert (code, err) == (0, "")
    assert "C-STORE-RSP to 2: 0000H success" in out
    assert "data set of C-STORE-RQ 2: 3000 bytes" in out
    assert "1 association; 0 errors, 1 warning, 0 notes" in out


def test_disorder_and_a_gap_in_a_network_capture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segments = conversation_of(GOOD).segments
    data = [number for number, s in enumerate(segments) if s.source == CLIENT and s.payload]
    middle = data[len(data) // 2]
    segments[middle + 1], segments[middle + 2] = segments[middle + 2], segments[middle + 1]
    segments.insert(middle + 5, segments[middle + 2])
    lost = segments.pop(middle)
    path = write_pcap(tmp_path / "a.pcap", segments)
    code, out, _ = dissected(capsys, path)
    assert code == 0
    assert f"{len(lost.payload)} bytes of the association requestor are missing" in out
    assert "with a gap in the capture" in out
    assert "Sta1      Sta13    A-RELEASE-RP" in out


def test_a_vlan_tag_is_looked_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.pcap"
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, snaplen=1 << 18)
        for segment in conversation_of(GOOD).segments:
            packet = bytes(ip_packet(segment, 4))
            writer.writepkt_time(bytes(12) + b"\x81\0\0\x07\x08\0" + packet, segment.time)
    assert dissected(capsys, path)[0] == 0


# The command.


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_pcap(tmp_path / "good.pcap", conversation_of(GOOD).segments)


def write_capture(path: Path, said: Iterable[Said]) -> Path:
    recorder = Recorder(path.open("wb"), path, A, "192.0.2.1:50000")
    for sender, data in said:
        (recorder.received if sender is R else recorder.sent)(data)
    recorder.received(b"")
    recorder.close()
    return path


def test_our_own_captures_need_no_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dpkt", None)
    code, out, err = dissected(capsys, write_capture(tmp_path / "a", GOOD))
    assert (code, err) == (0, "")
    assert "association 1: 192.0.2.1:50000 → isocenter" in out
    assert "Sta6      Sta6     C-STORE-RQ 2: SOP class" in out


def test_without_the_extra_the_cure_is_named(
    good: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dpkt", None)
    code, _, err = dissected(capsys, good)
    assert code == 2
    assert "pip install 'isocenter[dissect]'" in err


def test_what_went_wrong_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_capture(tmp_path / "a", [(R, ASSOCIATE_RQ), (A, ASSOCIATE_RJ)])
    code, out, _ = dissected(capsys, path)
    assert code == 1
    assert (
        "ERROR: the association was rejected: called AE title not recognized (PS3.8 9.3.4)" in out
    )
    assert "cure: call the AE title that the acceptor has" in out


def test_json_is_one_object_on_each_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_capture(tmp_path / "a", [*BEGIN, (A, A_ABORT)])
    code, out, _ = dissected(capsys, path, "--format", "json")
    opened, request, accept, abort, *_, summary = entries(out)
    assert code == 1
    assert opened["kind"] == "opened"
    assert (request["from"], request["requestor"], request["acceptor"]) == (
        "requestor",
        "Sta5",
        "Sta3",
    )
    assert accept["findings"][0]["clause"] == "PS3.8 9.3.3.2"
    assert abort["findings"] == [
        {
            "severity": "error",
            "text": "the application of the association acceptor aborted",
            "clause": "PS3.8 9.3.8",
            "cure": "see the association acceptor's log",
        }
    ]
    assert summary["kind"] == "summary"
    assert summary["findings"] == {"error": 1, "warning": 1, "note": 0}


def test_one_association_or_port_of_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = conversation_of(GOOD).segments
    second = [
        segment._replace(
            source=segment.source.replace("50000", "50001"),
            destination=segment.destination.replace("50000", "50001"),
        )
        for segment in conversation_of([(R, ASSOCIATE_RQ), (A, ASSOCIATE_RJ)]).segments
    ]
    mixed = [segment for pair in zip(first, second, strict=False) for segment in pair]
    mixed += first[len(second) :]
    path = tmp_path / "a.pcap"
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, snaplen=1 << 18)
        for number, segment in enumerate(mixed):
            names = {50000: CLIENT, 50001: CLIENT, 104: SERVER}
            plain = segment._replace(
                source=names[int(segment.source.rpartition(":")[2])],
                destination=names[int(segment.destination.rpartition(":")[2])],
            )
            packet = ip_packet(plain, 4)
            packet.data.sport = int(segment.source.rpartition(":")[2])
            packet.data.dport = int(segment.destination.rpartition(":")[2])
            writer.writepkt_time(frame(1, packet), number * 1e-3)
    assert dissected(capsys, path)[0] == 1
    code, out, _ = dissected(capsys, path, "--association", "2")
    assert (code, "A-ASSOCIATE-RJ" in out, "C-STORE" in out) == (1, True, False)
    code, out, _ = dissected(capsys, path, "--port", "50000")
    assert (code, "A-ASSOCIATE-RJ" in out, "C-STORE" in out) == (0, False, True)
    code, _, err = dissected(capsys, path, "--association", "3")
    assert (code, "there is no association 3; the capture has 2" in err) == (2, True)
    code, _, err = dissected(capsys, path, "--port", "4242")
    assert (code, "no association in it on port 4242" in err) == (2, True)


def test_tls_is_recognised_and_the_cure_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Talk()
    one.say(True, b"\x16\x03\x01\x00\xc8\x01" + bytes(100))
    one.say(False, b"\x16\x03\x03" + bytes(100))
    code, out, err = dissected(capsys, write_pcap(tmp_path / "a.pcap", one.segments))
    assert code == 2
    assert "isocenter serve --capture DIR" in out
    assert "only TLS" in err


def test_other_protocols_are_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Talk()
    one.say(True, b"GET / HTTP/1.1\r\n\r\n")
    one.say(False, b"HTTP/1.1 200 OK\r\n\r\n")
    code, _, err = dissected(capsys, write_pcap(tmp_path / "a.pcap", one.segments))
    assert (code, "there is no association in it" in err) == (2, True)


def test_a_capture_that_began_too_late_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = [s for s in conversation_of(GOOD).segments if not s.flags & SYN][8:]
    code, _, err = dissected(capsys, write_pcap(tmp_path / "a.pcap", late))
    assert (code, "start the capture before the association" in err) == (2, True)


def test_a_file_that_is_no_capture_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("hello")
    code, _, err = dissected(capsys, tmp_path / "a.txt")
    assert (code, "neither a network capture" in err) == (2, True)
    code, _, err = dissected(capsys, tmp_path / "nothing")
    assert (code, "No such file" in err) == (2, True)
    code, _, err = dissected(capsys, tmp_path)
    assert code == 2


@pytest.mark.parametrize("ng", [False, True], ids=["pcap", "pcapng"])
def test_a_capture_cut_short_is_shown_as_far_as_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ng: bool
) -> None:
    path = write_pcap(tmp_path / "a.pcap", conversation_of(GOOD).segments, ng=ng)
    path.write_bytes(path.read_bytes()[:-30])
    code, out, err = dissected(capsys, path)
    assert code == 2
    assert "cut short" in err
    assert "A-RELEASE-RP" in out


def test_an_unknown_link_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_pcap(tmp_path / "a.pcap", [], link=105)
    code, _, err = dissected(capsys, path)
    assert (code, "link of type 105" in err) == (2, True)


@pytest.mark.parametrize("ng", [False, True], ids=["pcap", "pcapng"])
@given(st.data())
def test_a_damaged_network_capture_never_raises(
    tmp_path_factory: pytest.TempPathFactory, ng: bool, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = write_pcap(folder / f"damaged-{ng}", conversation_of(GOOD).segments[:20], ng=ng)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    out = io.StringIO()
    old, sys.stdout = sys.stdout, out
    err, sys.stderr = sys.stderr, io.StringIO()
    try:
        assert main(["dissect", str(path)]) in (0, 1, 2)
    finally:
        sys.stdout, sys.stderr = old, err


def test_long_lists_are_cut_unless_all_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contexts = tuple(ProposedContext(n, CT, (EXPLICIT_VR_LITTLE_ENDIAN,)) for n in range(1, 256, 2))
    request = replace(REQUEST, presentation_contexts=contexts)
    path = write_capture(tmp_path / "a", [(R, pdu.encode_associate_request(request))])
    assert "… and 116 more lines (--all-details)" in dissected(capsys, path)[1]
    assert "context 255:" in dissected(capsys, path, "--all-details")[1]


def test_phi_stays_out_unless_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_capture(tmp_path / "a", find_conversation())
    for options in [(), ("--pdvs", "--all-details"), ("--format", "json")]:
        assert "Mustermann" not in dissected(capsys, path, *options)[1]
    assert "Mustermann^Erika" in dissected(capsys, path, "--show-phi")[1]


# DCMTK against our server, recorded.


@pytest.mark.interop("echoscu", "storescu", "findscu")
@pytest.mark.slow
def test_dcmtk_against_our_server_is_read_without_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write_studies(tmp_path / "files", studies=1, series=1, instances=2, rows=256)
    captures = tmp_path / "captures"
    with served_archive(tmp_path / "archive", "--capture", captures) as archive:
        where = ("-aec", "ISOCENTER", "127.0.0.1", archive.port)
        run("echoscu", *where)
        run("echoscu", "-aec", "SOMEBODY", "127.0.0.1", archive.port)
        run("echoscu", "--abort", *where)
        run("storescu", *where, *files)
        run("findscu", "-S", "-k", "0008,0052=STUDY", "-k", "PatientName", *where)
    echo, wrong, aborted, store, find = sorted(captures.iterdir())
    code, out, _ = dissected(capsys, echo)
    assert (code, "C-ECHO-RSP to 1: 0000H success" in out) == (0, True)
    code, out, _ = dissected(capsys, wrong)
    assert (code, "called AE title not recognized" in out) == (1, True)
    code, out, _ = dissected(capsys, aborted)
    assert (code, "the application of the association requestor aborted" in out) == (1, True)
    code, out, _ = dissected(capsys, store)
    assert code == 0
    assert len(re.findall(r"C-STORE-RSP to \d: 0000H success", out)) == 2
    assert len(re.findall(r"data set of C-STORE-RQ \d: 13\d{4} bytes", out)) == 2
    code, out, _ = dissected(capsys, find, "--format", "json")
    assert code == 0
    assert "Müller" not in out
    assert any(
        "(0010,0010) PN PatientName" in d for e in entries(out) for d in e.get("details", ())
    )
    assert "Müller" in dissected(capsys, find, "--show-phi")[1]
