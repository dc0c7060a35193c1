"""One line for everything (`describe`): exact words, bounded, printable, without anybody's data."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.engine import commands, effects, events, pdu
from isocenter.engine.describe import MAX_LENGTH, describe
from isocenter.engine.dimse import message_codec as dimse
from isocenter.engine.dimse.message_fields import MESSAGES
from isocenter.engine.errors import LimitExceeded, RemoteProtocolError
from isocenter.engine.items import (
    AsynchronousOperationsWindow,
    ContextResult,
    ProposedContext,
    RoleSelection,
    UserIdentity,
    UserInformation,
)
from isocenter.engine.negotiation import Role, negotiated_from

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"

REQUEST = pdu.AssociateRequest(
    called_ae_title="ISOCENTER",
    calling_ae_title="CT SCANNER",
    presentation_contexts=(
        ProposedContext(1, CT, (IMPLICIT,)),
        ProposedContext(3, "1.2.840.10008.1.1", (IMPLICIT,)),
    ),
    user_information=UserInformation(
        max_pdu_length=16_384,
        implementation_class_uid="1.2.3",
        implementation_version_name="OTHER_1",
        asynchronous_operations_window=AsynchronousOperationsWindow(8, 1),
        role_selections=(RoleSelection(CT, scu_role=True, scp_role=True),),
        user_identity=UserIdentity(2, False, b"SECRET", b"SECRET"),
    ),
)
ACCEPT = pdu.AssociateAccept(
    called_ae_title="ISOCENTER",
    calling_ae_title="CT SCANNER",
    presentation_contexts=(ContextResult(1, 0, IMPLICIT), ContextResult(3, 3)),
    user_information=UserInformation(implementation_class_uid="1.2.3"),
)
REQUESTED = (
    "A-ASSOCIATE-RQ from CT SCANNER to ISOCENTER, 2 presentation contexts proposed, "
    "maximum length 16384, OTHER_1, window 8/1, 1 role selection, "
    "user identity by username and passcode"
)
ACCEPTED = (
    "A-ASSOCIATE-AC from ISOCENTER to CT SCANNER, 1 of 2 presentation contexts accepted, "
    "no maximum length, 1.2.3"
)
REJECT = pdu.AssociateReject(2, 3, 2)
REJECTED = "A-ASSOCIATE-RJ for now: local limit exceeded (result 2, source 3, reason 2)"
STORE = dimse.CStoreRequest(
    message_id=5, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3.4", priority=1
)
STORED = f"C-STORE-RQ 5: SOP class {CT}, instance 1.2.3.4, high priority"
CANCEL = dimse.CCancelRequest(message_id_being_responded_to=8)
FAULT = RemoteProtocolError("PDV longer than its PDU (PS3.8 9.3.5)", 6)

LINES: list[tuple[object, str]] = [
    # PDUs
    (REQUEST, REQUESTED),
    (ACCEPT, ACCEPTED),
    (REJECT, REJECTED),
    (
        pdu.AssociateReject(1, 1, 7),
        "A-ASSOCIATE-RJ permanently: called AE title not recognized (result 1, source 1, reason 7)",
    ),
    (pdu.ReleaseRequest(), "A-RELEASE-RQ"),
    (pdu.ReleaseResponse(), "A-RELEASE-RP"),
    (pdu.Abort(0, 0), "A-ABORT by the service-user (source 0)"),
    (pdu.Abort(2, 2), "A-ABORT by the service-provider (source 2, reason 2: unexpected PDU)"),
    # commands
    (commands.RequestAssociation(REQUEST), f"A-ASSOCIATE request: {REQUESTED}"),
    (commands.AcceptAssociation(ACCEPT), f"A-ASSOCIATE response: {ACCEPTED}"),
    (commands.RejectAssociation(REJECT), f"A-ASSOCIATE response: {REJECTED}"),
    (commands.SendMessage(1, STORE), f"P-DATA request, context 1: {STORED}"),
    (
        commands.SendMessage(1, STORE, has_data_set=True),
        f"P-DATA request, context 1, data set follows: {STORED}",
    ),
    (
        commands.SendMessage(1, STORE, memoryview(b"SECRET")),
        f"P-DATA request, context 1, data set of 6 bytes: {STORED}",
    ),
    (
        commands.SendDataSet(3, b"S", is_last=True),
        "P-DATA request, context 3: end of a data set, 1 byte",
    ),
    (commands.RequestRelease(), "A-RELEASE request"),
    (commands.AcceptRelease(), "A-RELEASE response"),
    (commands.Abort(), "A-ABORT request"),
    # events
    (events.AssociationRequested(REQUEST), f"A-ASSOCIATE indication: {REQUESTED}"),
    (
        events.AssociationAccepted(ACCEPT, negotiated_from(REQUEST, ACCEPT, Role.REQUESTOR)),
        f"A-ASSOCIATE confirmation: {ACCEPTED}",
    ),
    (events.AssociationRejected(REJECT), f"A-ASSOCIATE confirmation: {REJECTED}"),
    (
        events.AssociationRejected(REJECT, by_peer=False),
        f"A-ASSOCIATE refused by us: {REJECTED}",
    ),
    (
        events.MessageReceived(1, STORE, has_data_set=True),
        f"P-DATA indication, context 1, data set follows: {STORED}",
    ),
    (
        events.DataSetReceived(1, memoryview(b"SECRET"), is_last=False),
        "P-DATA indication, context 1: part of a data set, 6 bytes",
    ),
    (events.CancelReceived(1, CANCEL), "P-DATA indication, context 1: C-CANCEL-RQ of 8"),
    (events.ReleaseRequested(), "A-RELEASE indication"),
    (events.ReleaseRequested(is_collision=True), "A-RELEASE indication (release collision)"),
    (events.AssociationReleased(), "A-RELEASE confirmation"),
    (events.AssociationAborted(0, 0), "A-ABORT indication by the service-user (source 0)"),
    (
        events.ProviderAborted(6, FAULT),
        (
            "A-P-ABORT indication: invalid PDU parameter value (reason 6): "
            "PDV longer than its PDU (PS3.8 9.3.5)"
        ),
    ),
    (
        events.ProviderAborted(0, transport_lost=True),
        "A-P-ABORT indication: the transport connection was lost",
    ),
    # effects
    (effects.OpenTransport(), "open the transport connection"),
    (effects.SendBytes((b"\x04SECR", memoryview(b"ET"))), "send 7 bytes: P-DATA-TF"),
    (effects.SendBytes((b"\x99",)), "send 1 byte"),
    (effects.CloseTransport(), "close the transport connection"),
    (effects.StartArtim(), "start ARTIM"),
    (effects.StopArtim(), "stop ARTIM"),
    (
        effects.PeerFault(LimitExceeded("A-ASSOCIATE-RQ of 4 GiB", "associate_pdu")),
        "the peer broke the protocol: A-ASSOCIATE-RQ of 4 GiB",
    ),
    # messages
    (STORE, STORED),
    (CANCEL, "C-CANCEL-RQ of 8"),
    (
        dimse.CStoreRequest(
            message_id=5,
            affected_sop_class_uid=CT,
            affected_sop_instance_uid="1.2.3.4",
            priority=2,
            move_originator_ae_title="MOVER",
            move_originator_message_id=7,
        ),
        (
            f"C-STORE-RQ 5: SOP class {CT}, instance 1.2.3.4, low priority, moved for MOVER, "
            "C-MOVE-RQ 7"
        ),
    ),
    (
        dimse.CStoreResponse(
            message_id_being_responded_to=5, status=0xB000, affected_sop_instance_uid="1.2.3.4"
        ),
        "C-STORE-RSP to 5: B000H warning: coercion of data elements, instance 1.2.3.4",
    ),
    (
        dimse.CMoveRequest(message_id=1, affected_sop_class_uid="1.2", move_destination="WS"),
        "C-MOVE-RQ 1: SOP class 1.2, to WS",
    ),
    (
        dimse.CMoveResponse(
            message_id_being_responded_to=1,
            status=0xB000,
            number_of_completed_suboperations=5,
            number_of_failed_suboperations=2,
            number_of_warning_suboperations=0,
            error_comment="SECRET",
        ),
        (
            "C-MOVE-RSP to 1: B000H sub-operations complete, with failures or warnings, "
            "5 completed, 2 failed, 0 warning, error comment of 6 characters"
        ),
    ),
    (
        dimse.CFindResponse(
            message_id_being_responded_to=1, status=0xA900, offending_elements=tuple(range(6))
        ),
        (
            "C-FIND-RSP to 1: A900H identifier does not match SOP class, offending elements "
            "(0000,0000) (0000,0001) (0000,0002) (0000,0003) and 2 more"
        ),
    ),
    (
        dimse.NGetRequest(
            message_id=2,
            requested_sop_class_uid="1.2",
            requested_sop_instance_uid="1.3",
            attribute_identifier_list=(0x2110_0010,),
        ),
        "N-GET-RQ 2: SOP class 1.2, instance 1.3, attribute (2110,0010)",
    ),
    (
        dimse.NGetRequest(
            message_id=2, requested_sop_class_uid="1.2", requested_sop_instance_uid="1.3"
        ),
        "N-GET-RQ 2: SOP class 1.2, instance 1.3, all attributes",
    ),
    (
        dimse.NActionRequest(
            message_id=2,
            requested_sop_class_uid="1.2",
            requested_sop_instance_uid="1.3",
            action_type_id=1,
        ),
        "N-ACTION-RQ 2: SOP class 1.2, instance 1.3, action type 1",
    ),
    (
        dimse.NEventReportRequest(
            message_id=2,
            affected_sop_class_uid="1.2",
            affected_sop_instance_uid="1.3",
            event_type_id=2,
        ),
        "N-EVENT-REPORT-RQ 2: SOP class 1.2, instance 1.3, event type 2",
    ),
    (
        dimse.NActionResponse(
            message_id_being_responded_to=2,
            status=0xC301,
            affected_sop_class_uid="1.2.840.10008.5.1.4.34.6.1",
            affected_sop_instance_uid="1.3",
            error_id=0x12,
        ),
        (
            "N-ACTION-RSP to 2: C301H the correct transaction UID was not provided, instance 1.3, "
            "error ID 0012H"
        ),
    ),
    (
        dimse.UnrecognizedMessage(
            command_field=0x0777, message_id=3, status=0x0211, error="command field 0777H"
        ),
        (
            "command 0777H 3 that cannot be performed: 0211H unrecognized operation: "
            "command field 0777H"
        ),
    ),
    (
        dimse.UnrecognizedMessageResponse(
            command_field=0x8140, message_id_being_responded_to=3, status=0x0212
        ),
        "response to N-CREATE-RQ to 3: 0212H mistyped argument",
    ),
    # anything else
    (object(), "object"),
    (None, "NoneType"),
    ("SECRET", "str"),
]


@pytest.mark.parametrize(("item", "line"), LINES, ids=[type(item).__name__ for item, _ in LINES])
def test_lines(item: object, line: str) -> None:
    assert describe(item) == (line if len(line) <= MAX_LENGTH else line[: MAX_LENGTH - 1] + "…")


def test_every_class_of_every_union_has_a_line_of_its_own() -> None:
    unions = (pdu.Pdu, commands.Command, events.Event, effects.Effect)
    members = {kind for union in unions for kind in get_args(union)}
    assert members <= {type(item) for item, _ in LINES}


@pytest.mark.parametrize("rule", MESSAGES, ids=lambda rule: rule.name)
def test_every_message_is_named_as_the_standard_does(rule: Any) -> None:
    values: dict[str, Any] = {
        name: 1 if "id" in name or name == "status" else "1.2" for name in rule.fields
    }
    values |= {name: 1 for name in rule.fields if name.startswith("number_of")}
    values |= {"priority": 0} if "priority" in rule.fields else {}
    values |= dict.fromkeys(("offending_elements", "attribute_identifier_list"), ())
    values |= {name: "1.2" for name in rule.fields if name.endswith("uid")}
    item = rule.message_class(**{name: values[name] for name in rule.fields})
    assert describe(item).startswith(f"{rule.name} ")
    assert "malformed" not in describe(item)


def check(line: str) -> None:
    assert 0 < len(line) <= MAX_LENGTH
    assert line.isprintable()


def test_nothing_of_a_peer_breaks_the_line() -> None:
    """Log forging: line ends, terminal escapes, text that runs backwards, a lone surrogate."""
    for character in ("\n", "\r", "\x1b", "\0", "\x85", "\u2028", "\u202e", "\udc80", "\x7f"):
        request = dimse.CStoreRequest(
            message_id=1,
            affected_sop_class_uid=f"1.2{character}A",
            affected_sop_instance_uid=f"{character}",
            move_originator_ae_title=f"A{character}B",
        )
        line = describe(request)
        check(line)
        assert character not in line
    assert describe(dimse.CEchoRequest(message_id=1, affected_sop_class_uid="a\\n\n")) == (
        "C-ECHO-RQ 1: SOP class a\\\\n\\n"
    )


def test_long_text_is_cut() -> None:
    request = dimse.CEchoRequest(message_id=1, affected_sop_class_uid="1" * 50_000)
    assert describe(request) == f"C-ECHO-RQ 1: SOP class {'1' * 64}…"
    line = describe(events.ProviderAborted(6, RemoteProtocolError("x" * 50_000)))
    assert len(line) == MAX_LENGTH
    assert line.endswith("…")


SECRET = "DOE^JANE"
#: A value of each kind with something in every field that may hold a patient's.
SECRETIVE: list[object] = [
    dimse.CFindResponse(message_id_being_responded_to=1, status=0xC001, error_comment=SECRET),
    dimse.NSetResponse(message_id_being_responded_to=1, status=0x0110, error_comment=SECRET),
    dimse.UnrecognizedMessageResponse(
        command_field=0x8777, message_id_being_responded_to=1, status=0x0211, error_comment=SECRET
    ),
    commands.SendMessage(1, STORE, SECRET.encode()),
    commands.SendDataSet(1, SECRET.encode(), True),
    events.DataSetReceived(1, memoryview(SECRET.encode()), True),
    effects.SendBytes((SECRET.encode(),)),
    *(
        pdu.AssociateRequest(
            called_ae_title="A",
            calling_ae_title="B",
            presentation_contexts=(),
            user_information=UserInformation(
                user_identity=UserIdentity(kind, True, SECRET.encode(), SECRET.encode()),
                user_identity_response=SECRET.encode(),
            ),
        )
        for kind in range(7)
    ),
]


@pytest.mark.parametrize("item", SECRETIVE, ids=lambda item: type(item).__name__)
def test_nothing_that_may_be_a_patients(item: object) -> None:
    line = describe(item)
    assert "DOE" not in line
    assert "JANE" not in line
    assert "malformed" not in line


KINDS: list[type[Any]] = [
    *(type(item) for item, _ in LINES if is_dataclass(item)),
    *(rule.message_class for rule in MESSAGES),
]
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=300),
    st.binary(max_size=20),
    st.tuples(),
    st.lists(st.integers(), max_size=9).map(tuple),
    st.sampled_from([REQUEST, ACCEPT, REJECT, STORE, CANCEL, FAULT, memoryview(b"ab")]),
)


@settings(max_examples=500)
@given(st.sampled_from(KINDS), st.data())
def test_never_raises(kind: type[Any], data: st.DataObject) -> None:
    """Whatever stands in its fields, of whatever type."""
    item = kind(**{field.name: data.draw(anything) for field in fields(kind)})
    check(describe(item))


class Hostile:
    """An object that fails however it is looked at."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


def test_foreign_objects_are_not_looked_at() -> None:
    check(describe(Hostile()))
    check(describe(events.ProviderAborted(6, Hostile())))  # type: ignore[arg-type]
    check(describe(type("a\nb" * 100, (), {})()))
