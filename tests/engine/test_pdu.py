"""The PDUs of PS3.8 9.3: vectors, round trips, what is refused, and pynetdicom's view of them."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pynetdicom.pdu as theirs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pynetdicom.pdu_primitives import A_ASSOCIATE, MaximumLengthNotification
from pynetdicom.presentation import build_context

from isocenter.engine import pdu
from isocenter.engine.errors import (
    INVALID_PDU_PARAMETER_VALUE,
    UNEXPECTED_PDU_PARAMETER,
    UNRECOGNIZED_PDU,
    LimitExceeded,
    LocalProtocolError,
    RemoteProtocolError,
)
from isocenter.engine.items import (
    AsynchronousOperationsWindow,
    CommonExtendedNegotiation,
    ContextResult,
    ExtendedNegotiation,
    ProposedContext,
    RoleSelection,
    UserIdentity,
    UserInformation,
)
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.pdu import (
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    PduType,
    ReleaseRequest,
    ReleaseResponse,
    decode_pdu,
)
from vectors.reader import read_vector

HEADER = 6
#: Bytes of an A-ASSOCIATE body before its items.
FIXED = 68
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"

REQUEST = AssociateRequest(
    called_ae_title="ISOCENTER",
    calling_ae_title="CT1",
    presentation_contexts=(
        ProposedContext(1, "1.2.840.10008.1.1", (IMPLICIT,)),
        ProposedContext(3, CT, (EXPLICIT, IMPLICIT)),
    ),
    user_information=UserInformation(
        max_pdu_length=16_384,
        implementation_class_uid="1.2.3.4",
        implementation_version_name="V1.0",
        asynchronous_operations_window=AsynchronousOperationsWindow(5, 3),
        role_selections=(RoleSelection(CT, scu_role=False, scp_role=True),),
        extended_negotiations=(ExtendedNegotiation(CT, b"\x02"),),
        common_extended_negotiations=(
            CommonExtendedNegotiation(CT, "1.2.840.10008.4.2", ("1.23",)),
        ),
        user_identity=UserIdentity(2, True, b"user", b"key"),
    ),
)
ACCEPT = AssociateAccept(
    called_ae_title="ISOCENTER",
    calling_ae_title="CT1",
    presentation_contexts=(ContextResult(1, 0, IMPLICIT), ContextResult(3, 3)),
    user_information=UserInformation(
        max_pdu_length=131_072,
        implementation_class_uid="1.2.3.4",
        asynchronous_operations_window=AsynchronousOperationsWindow(1, 1),
        user_identity_response=b"yes",
    ),
)
VECTORS: dict[str, pdu.Pdu] = {
    "associate_rq": REQUEST,
    "associate_ac": ACCEPT,
    "associate_rj": AssociateReject(1, 1, 7),
    "release_rq": ReleaseRequest(),
    "release_rp": ReleaseResponse(),
    "abort": Abort(2, 6),
}


def encode(value: pdu.Pdu) -> bytes:
    match value:
        case AssociateRequest():
            return pdu.encode_associate_request(value)
        case AssociateAccept():
            return pdu.encode_associate_accept(value)
        case AssociateReject():
            return pdu.encode_associate_reject(value)
        case ReleaseRequest():
            return pdu.encode_release_request()
        case ReleaseResponse():
            return pdu.encode_release_response()
        case Abort():
            return pdu.encode_abort(value)


def decode(whole: bytes, limits: Limits = DEFAULT_LIMITS) -> pdu.Pdu:
    pdu_type, length = struct.unpack_from(">BxI", whole)
    assert length == len(whole) - HEADER
    return decode_pdu(pdu_type, whole[HEADER:], limits)


def refusal(decode: Callable[..., object], *arguments: object) -> int | None:
    """The reason of the A-ABORT that these bytes would get, None when they mean something."""
    try:
        decode(*arguments)
    except RemoteProtocolError as fault:
        return fault.reason
    return None


def item(item_type: int, value: bytes) -> bytes:
    return struct.pack(">BxH", item_type, len(value)) + value


APPLICATION_CONTEXT = item(0x10, b"1.2.840.10008.3.1.1.1")
CONTEXT_1 = item(
    0x20, b"\x01\0\0\0" + item(0x30, b"1.2.840.10008.1.1") + item(0x40, IMPLICIT.encode())
)


def request_body(
    *items: bytes, called: bytes = b"ISOCENTER", calling: bytes = b"CT1", version: int = 1
) -> bytes:
    fixed = struct.pack(">H2x16s16s32x", version, called.ljust(16), calling.ljust(16))
    return fixed + b"".join(items)


def decode_request(*items: bytes, **fields: Any) -> AssociateRequest:
    decoded = decode_pdu(PduType.A_ASSOCIATE_RQ, request_body(*items, **fields), DEFAULT_LIMITS)
    assert isinstance(decoded, AssociateRequest)
    return decoded


# Values that the standard allows.

numbers = st.integers(0, 2**32 - 1)
uids = st.lists(st.integers(0, 9_999_999), min_size=1, max_size=8).map(
    lambda parts: ".".join(map(str, parts))
)
ae_titles = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\"),
    min_size=1,
    max_size=16,
).filter(lambda text: text == text.strip())
version_names = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\"), max_size=16
)
words = st.integers(0, 2**16 - 1)
few_bytes = st.binary(max_size=40)
user_information = st.builds(
    UserInformation,
    max_pdu_length=numbers,
    implementation_class_uid=uids | st.just(""),
    implementation_version_name=version_names,
    asynchronous_operations_window=st.none()
    | st.builds(AsynchronousOperationsWindow, words, words),
    role_selections=st.lists(
        st.builds(RoleSelection, uids, st.booleans(), st.booleans()), max_size=3
    ).map(tuple),
    extended_negotiations=st.lists(st.builds(ExtendedNegotiation, uids, few_bytes), max_size=3).map(
        tuple
    ),
    common_extended_negotiations=st.lists(
        st.builds(CommonExtendedNegotiation, uids, uids, st.lists(uids, max_size=3).map(tuple)),
        max_size=2,
    ).map(tuple),
    user_identity=st.none()
    | st.builds(UserIdentity, st.integers(1, 5), st.booleans(), few_bytes, few_bytes),
    user_identity_response=st.none() | few_bytes,
)
context_ids = st.lists(
    st.integers(0, 127).map(lambda number: 2 * number + 1), unique=True, max_size=5
)
requests = st.builds(
    AssociateRequest,
    called_ae_title=ae_titles,
    calling_ae_title=ae_titles,
    presentation_contexts=context_ids.flatmap(
        lambda ids: st.tuples(
            *(
                st.builds(
                    ProposedContext,
                    st.just(number),
                    uids,
                    st.lists(uids, min_size=1, max_size=4).map(tuple),
                )
                for number in ids
            )
        )
    ),
    user_information=user_information,
    application_context_name=uids,
    protocol_version=words,
)
accepts = st.builds(
    AssociateAccept,
    called_ae_title=ae_titles,
    calling_ae_title=ae_titles,
    presentation_contexts=context_ids.flatmap(
        lambda ids: st.tuples(
            *(
                st.builds(ContextResult, st.just(number), st.just(0), uids)
                | st.builds(ContextResult, st.just(number), st.integers(1, 4))
                for number in ids
            )
        )
    ),
    user_information=user_information,
    application_context_name=uids,
    protocol_version=words,
)
rejects = st.builds(
    AssociateReject, st.sampled_from([1, 2]), st.sampled_from([1, 2, 3]), st.integers(1, 255)
)
aborts = st.builds(Abort, st.sampled_from([0, 2]), st.sampled_from([0, 1, 2, 4, 5, 6]))
pdus = requests | accepts | rejects | aborts


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    whole = read_vector(name)
    assert decode(whole) == VECTORS[name]
    assert encode(VECTORS[name]) == whole


@given(pdus)
def test_round_trip(value: pdu.Pdu) -> None:
    assert decode(encode(value)) == value


@pytest.mark.parametrize("name", VECTORS)
def test_pdu_types_print_as_the_standard_does(name: str) -> None:
    pdu_type = PduType(read_vector(name)[0])
    printed = {"abort": "A-ABORT", "release_rq": "A-RELEASE-RQ", "associate_ac": "A-ASSOCIATE-AC"}
    assert str(pdu_type) == f"{pdu_type}"
    assert str(pdu_type) == printed.get(name, str(pdu_type))
    assert str(PduType.P_DATA_TF) == "P-DATA-TF"


# Whatever comes.


@pytest.mark.parametrize("name", VECTORS)
def test_every_truncation_is_refused_or_means_something(name: str) -> None:
    whole = read_vector(name)
    for end in range(HEADER, len(whole)):
        reason = refusal(decode_pdu, whole[0], whole[HEADER:end], DEFAULT_LIMITS)
        if reason is None:
            # Only where the cut falls between two items.
            assert name.startswith("associate_")
            assert end > HEADER + FIXED
        else:
            assert reason == INVALID_PDU_PARAMETER_VALUE


@settings(max_examples=400)
@given(st.data())
def test_mutated_bytes_are_refused_or_mean_something(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["associate_rq", "associate_ac"]))
    whole = bytearray(read_vector(name))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(HEADER, len(whole) - 1))
        whole[position] = data.draw(st.integers(0, 255))
    reason = refusal(decode_pdu, whole[0], memoryview(whole)[HEADER:], DEFAULT_LIMITS)
    assert reason in {None, INVALID_PDU_PARAMETER_VALUE, UNEXPECTED_PDU_PARAMETER}


@given(st.sampled_from([1, 2, 3, 5, 6, 7]), st.binary(max_size=200))
def test_any_bytes_are_refused_or_mean_something(pdu_type: int, body: bytes) -> None:
    reason = refusal(decode_pdu, pdu_type, body, DEFAULT_LIMITS)
    if reason is None:
        assert len(body) == 4 or len(body) >= FIXED
    else:
        assert reason == INVALID_PDU_PARAMETER_VALUE


@pytest.mark.parametrize("pdu_type", [0, 4, 8, 255])
def test_other_types_are_not_decoded(pdu_type: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_pdu(pdu_type, bytes(4), DEFAULT_LIMITS)
    assert caught.value.reason == UNRECOGNIZED_PDU


@pytest.mark.parametrize("pdu_type", [3, 5, 6, 7])
@pytest.mark.parametrize("length", [0, 3, 5])
def test_four_bytes_are_four(pdu_type: int, length: int) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_pdu(pdu_type, bytes(length), DEFAULT_LIMITS)


def test_memory_is_bounded_by_the_input() -> None:
    """A body of the largest size, made to take as much memory as it can."""
    syntax = b"".join(item(0x40, b"%d" % number) for number in range(10_000, 10_128))
    contexts = b"".join(
        item(0x20, bytes((2 * number + 1, 0, 0, 0)) + item(0x30, b"1.2") + syntax)
        for number in range(128)
    )
    roles = b"".join(item(0x54, b"\0\x03%03d\0\1" % (number % 1000)) for number in range(5_957))
    body = request_body(APPLICATION_CONTEXT, contexts, item(0x50, roles))
    tracemalloc.start()
    decoded = decode_pdu(PduType.A_ASSOCIATE_RQ, body, DEFAULT_LIMITS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(decoded, AssociateRequest)
    assert peak < 4 * len(body) + (1 << 20)


# What is ignored (PS3.8 9.3.1, 9.3.2).


def test_unknown_items_and_reserved_fields_are_ignored() -> None:
    context = item(
        0x20,
        b"\x01\xff\xff\xff"
        + item(0x77, b"?")
        + item(0x30, b"1.2.840.10008.1.1")
        + item(0x40, IMPLICIT.encode()),
    )
    body = bytearray(
        request_body(
            item(0x99, b"what"),
            APPLICATION_CONTEXT,
            context,
            item(0x50, item(0x7F, b"later") + item(0x51, bytes((0, 0, 0x40, 0)))),
            version=0x8003,
        )
    )
    body[2:4] = b"\xff\xff"
    body[36:68] = b"\xff" * 32
    decoded = decode_pdu(PduType.A_ASSOCIATE_RQ, body, DEFAULT_LIMITS)
    assert isinstance(decoded, AssociateRequest)
    assert decoded.presentation_contexts == (ProposedContext(1, "1.2.840.10008.1.1", (IMPLICIT,)),)
    assert decoded.user_information == UserInformation(max_pdu_length=16_384)
    assert decoded.protocol_version == 0x8003


def test_the_ae_titles_of_an_accept_are_not_tested() -> None:
    body = bytearray(read_vector("associate_ac")[HEADER:])
    body[4:36] = bytes(16) + b"\\\xff".ljust(16)
    decoded = decode_pdu(PduType.A_ASSOCIATE_AC, body, DEFAULT_LIMITS)
    assert isinstance(decoded, AssociateAccept)
    assert (decoded.called_ae_title, decoded.calling_ae_title) == ("", "\\\xff")


def test_padding_that_peers_add_is_taken_off() -> None:
    """NUL after a UID, as data sets have it, and spaces on both sides of an AE title."""
    context = item(
        0x20,
        b"\x01\0\0\0" + item(0x30, b"1.2.840.10008.1.1\0") + item(0x40, IMPLICIT.encode() + b"\0"),
    )
    decoded = decode_request(
        item(0x10, b"1.2.840.10008.3.1.1.1\0"), context, called=b"  AE 1          "
    )
    assert decoded.presentation_contexts == (ProposedContext(1, "1.2.840.10008.1.1", (IMPLICIT,)),)
    assert decoded.application_context_name == "1.2.840.10008.3.1.1.1"
    assert decoded.called_ae_title == "AE 1"


# What is refused.


def syntaxes(abstract: bytes, *transfer: bytes) -> bytes:
    return item(0x30, abstract) + b"".join(item(0x40, name) for name in transfer)


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([], INVALID_PDU_PARAMETER_VALUE),
        ([CONTEXT_1], INVALID_PDU_PARAMETER_VALUE),
        ([APPLICATION_CONTEXT, CONTEXT_1, CONTEXT_1], INVALID_PDU_PARAMETER_VALUE),
        ([APPLICATION_CONTEXT, APPLICATION_CONTEXT], UNEXPECTED_PDU_PARAMETER),
        ([APPLICATION_CONTEXT, item(0x21, b"\1\0\0\0")], UNEXPECTED_PDU_PARAMETER),
        ([APPLICATION_CONTEXT, item(0x50, b""), item(0x50, b"")], UNEXPECTED_PDU_PARAMETER),
        ([item(0x10, b"../../etc")], INVALID_PDU_PARAMETER_VALUE),
        ([APPLICATION_CONTEXT, b"\x20"], INVALID_PDU_PARAMETER_VALUE),
        ([APPLICATION_CONTEXT, b"\x20\0\xff\xff"], INVALID_PDU_PARAMETER_VALUE),
        ([APPLICATION_CONTEXT, item(0x50, b"\x51\0\0\5\0\0\0\0")], INVALID_PDU_PARAMETER_VALUE),
    ],
)
def test_items_that_are_refused(items: list[bytes], reason: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_request(*items)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\x01\0\0", INVALID_PDU_PARAMETER_VALUE),
        (b"\x02\0\0\0" + syntaxes(b"1.2", b"1.2"), INVALID_PDU_PARAMETER_VALUE),
        (b"\x00\0\0\0" + syntaxes(b"1.2", b"1.2"), INVALID_PDU_PARAMETER_VALUE),
        (b"\x01\0\0\0" + syntaxes(b"1.2"), INVALID_PDU_PARAMETER_VALUE),
        (b"\x01\0\0\0" + item(0x40, b"1.2"), INVALID_PDU_PARAMETER_VALUE),
        (b"\x01\0\0\0" + syntaxes(b"", b"1.2"), INVALID_PDU_PARAMETER_VALUE),
        (b"\x01\0\0\0" + syntaxes(b"1..2", b"1.2"), INVALID_PDU_PARAMETER_VALUE),
        (b"\x01\0\0\0" + syntaxes(b"1.2", b"1.2/3"), INVALID_PDU_PARAMETER_VALUE),
        (b"\x01\0\0\0" + syntaxes(b"1" * 65, b"1.2"), INVALID_PDU_PARAMETER_VALUE),
        (
            b"\x01\0\0\0" + syntaxes(b"1.2", b"1.2") + item(0x30, b"1.3"),
            UNEXPECTED_PDU_PARAMETER,
        ),
    ],
)
def test_proposed_contexts_that_are_refused(value: bytes, reason: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_request(APPLICATION_CONTEXT, item(0x20, value))
    assert caught.value.reason == reason


def test_limits() -> None:
    few = Limits(presentation_contexts=1, transfer_syntaxes=1)
    body = read_vector("associate_rq")[HEADER:]
    with pytest.raises(LimitExceeded) as caught:
        decode_pdu(PduType.A_ASSOCIATE_RQ, body, few)
    assert caught.value.limit == "presentation_contexts"
    body = read_vector("associate_ac")[HEADER:]
    with pytest.raises(LimitExceeded) as caught:
        decode_pdu(PduType.A_ASSOCIATE_AC, body, few)
    assert caught.value.limit == "presentation_contexts"
    two = item(0x20, b"\1\0\0\0" + syntaxes(b"1.2", b"1.2", b"1.3"))
    with pytest.raises(LimitExceeded) as caught:
        decode_pdu(PduType.A_ASSOCIATE_RQ, request_body(APPLICATION_CONTEXT, two), few)
    assert caught.value.limit == "transfer_syntaxes"


def test_the_shortest_associate_pdu_has_its_fixed_part() -> None:
    """68 bytes are enough to read, and then what is missing is an item."""
    with pytest.raises(RemoteProtocolError, match="without an application context"):
        decode_pdu(PduType.A_ASSOCIATE_RQ, bytes(FIXED), DEFAULT_LIMITS)
    with pytest.raises(RemoteProtocolError, match="fixed part"):
        decode_pdu(PduType.A_ASSOCIATE_RQ, bytes(FIXED - 1), DEFAULT_LIMITS)


def test_an_item_of_a_request_in_an_accept() -> None:
    """And the other way round: reason 5."""
    body = bytearray(request_body(APPLICATION_CONTEXT, CONTEXT_1))
    with pytest.raises(RemoteProtocolError) as caught:
        decode_pdu(PduType.A_ASSOCIATE_AC, body, DEFAULT_LIMITS)
    assert caught.value.reason == UNEXPECTED_PDU_PARAMETER


#: A field as a peer fills it → what it says.
AE_TITLE_FIELDS = [
    (b" XAX".ljust(16), "XAX"),
    (b"XAX".ljust(16, b"\0"), "XAX"),
    (b"XAX\0".ljust(16), "XAX"),
    (b"XAX  \0\0 \0    ab ", "XAX"),
    (b"X\0" + b"\xff" * 14, "X"),
    (b"A\tB\t".ljust(16), "A\tB\t"),
    (b"X" * 16, "X" * 16),
    # What is none stays visible, for whoever turns it away.
    (b" " * 16, ""),
    (b"\0" * 16, ""),
    (b"\0 AE".ljust(16), ""),
    (b" \0AE".ljust(16), ""),
    (b"M\xdcLLER".ljust(16), "M\xdcLLER"),
    (b"A\\B".ljust(16), "A\\B"),
    (b"A\x1bB".ljust(16), "A\x1bB"),
]


@pytest.mark.parametrize(("field", "title"), AE_TITLE_FIELDS)
def test_ae_titles_end_at_the_first_nul(field: bytes, title: str) -> None:
    """C programs copy a string into a field of spaces (PS3.8 9.3.2 asks for spaces alone)."""
    titled = decode_request(APPLICATION_CONTEXT, CONTEXT_1, called=field, calling=field)
    assert (titled.called_ae_title, titled.calling_ae_title) == (title, title)
    body = bytearray(read_vector("associate_ac")[HEADER:])
    body[4:36] = field * 2
    decoded = decode_pdu(PduType.A_ASSOCIATE_AC, body, DEFAULT_LIMITS)
    assert isinstance(decoded, AssociateAccept)
    assert (decoded.called_ae_title, decoded.calling_ae_title) == (title, title)


@pytest.mark.parametrize("reason", [1, 255])
def test_reasons_of_a_rejection_that_can_be_sent(reason: int) -> None:
    value = AssociateReject(1, 1, reason)
    assert encode(value)[-1] == reason


def test_any_protocol_version_can_be_sent() -> None:
    for version in (0, 0xFFFF):
        body = encode(request_with(protocol_version=version))[HEADER:]
        decoded = decode_pdu(PduType.A_ASSOCIATE_RQ, body, DEFAULT_LIMITS)
        assert isinstance(decoded, AssociateRequest)
        assert decoded.protocol_version == version


def test_pdu_types_are_aligned_by_their_names() -> None:
    assert f"{PduType.P_DATA_TF:>12}|" == "   P-DATA-TF|"


# What we may not send.


def request_with(**fields: Any) -> AssociateRequest:
    values: dict[str, Any] = {
        "called_ae_title": "ISOCENTER",
        "calling_ae_title": "CT1",
        "presentation_contexts": (ProposedContext(1, "1.2", ("1.2",)),),
        "user_information": UserInformation(),
    }
    return AssociateRequest(**values | fields)


@pytest.mark.parametrize(
    "value",
    [
        request_with(called_ae_title=""),
        request_with(calling_ae_title="SEVENTEEN LETTERS"),
        request_with(calling_ae_title="A\\B"),
        request_with(calling_ae_title="Ä"),
        request_with(calling_ae_title="A\0"),
        request_with(application_context_name=""),
        request_with(protocol_version=1 << 16),
        request_with(presentation_contexts=(ProposedContext(2, "1.2", ("1.2",)),)),
        request_with(presentation_contexts=(ProposedContext(257, "1.2", ("1.2",)),)),
        request_with(presentation_contexts=(ProposedContext(-1, "1.2", ("1.2",)),)),
        request_with(presentation_contexts=(ProposedContext(1, "1.2", ()),)),
        request_with(presentation_contexts=(ProposedContext(1, "1.2/3", ("1.2",)),)),
        request_with(presentation_contexts=(ProposedContext(1, "1.2", ("1.2",)),) * 2),
        request_with(user_information=UserInformation(max_pdu_length=1 << 32)),
        request_with(user_information=UserInformation(max_pdu_length=-1)),
        request_with(user_information=UserInformation(implementation_version_name="x" * 17)),
        request_with(user_information=UserInformation(implementation_version_name="\n")),
        request_with(user_information=UserInformation(implementation_class_uid="no")),
        request_with(
            user_information=UserInformation(
                asynchronous_operations_window=AsynchronousOperationsWindow(1 << 16, 1)
            )
        ),
        request_with(
            user_information=UserInformation(user_identity=UserIdentity(300, False, b"a"))
        ),
        request_with(
            user_information=UserInformation(user_identity=UserIdentity(3, False, bytes(1 << 16)))
        ),
        request_with(
            user_information=UserInformation(user_identity=UserIdentity(3, False, bytes(65_530)))
        ),
        AssociateReject(0, 1, 1),
        AssociateReject(1, 4, 1),
        AssociateReject(1, 1, 256),
        Abort(1, 0),
        Abort(2, 3),
    ],
)
def test_what_we_may_not_send(value: pdu.Pdu) -> None:
    with pytest.raises(LocalProtocolError):
        encode(value)


@pytest.mark.parametrize(
    "result", [ContextResult(1, 0), ContextResult(1, 5), ContextResult(1, -1), ContextResult(4, 3)]
)
def test_results_that_we_may_not_send(result: ContextResult) -> None:
    with pytest.raises(LocalProtocolError):
        encode(
            AssociateAccept(
                called_ae_title="A",
                calling_ae_title="B",
                presentation_contexts=(result,),
                user_information=UserInformation(),
            )
        )


def test_secrets_are_not_printed() -> None:
    assert "key" not in repr(REQUEST)


# pynetdicom as a second opinion.


def assert_same_items(mine: UserInformation, other: Any) -> None:
    assert other.maximum_length == mine.max_pdu_length
    window = other.async_ops_window
    assert (window is None) == (mine.asynchronous_operations_window is None)
    if mine.asynchronous_operations_window is not None:
        assert window.maximum_number_operations_invoked == (
            mine.asynchronous_operations_window.invoked
        )
        assert window.maximum_number_operations_performed == (
            mine.asynchronous_operations_window.performed
        )
    assert {
        (uid, bool(role.scu_role), bool(role.scp_role))
        for uid, role in other.role_selection.items()
    } == {(role.sop_class_uid, role.scu_role, role.scp_role) for role in mine.role_selections}
    assert {
        extended.sop_class_uid: extended.service_class_application_information
        for extended in other.ext_neg
    } == {
        extended.sop_class_uid: extended.application_information
        for extended in mine.extended_negotiations
    }
    assert {
        (
            common.sop_class_uid,
            common.service_class_uid,
            tuple(common.related_general_sop_class_identification),
        )
        for common in other.common_ext_neg
    } == {
        (
            common.sop_class_uid,
            common.service_class_uid,
            common.related_general_sop_class_uids,
        )
        for common in mine.common_extended_negotiations
    }
    if mine.user_identity is not None:
        identity = other.user_identity
        assert identity.user_identity_type == mine.user_identity.identity_type
        assert bool(identity.positive_response_requested) == (
            mine.user_identity.positive_response_requested
        )
        assert identity.primary_field == mine.user_identity.primary_field
        assert (identity.secondary_field or b"") == mine.user_identity.secondary_field


def test_pynetdicom_reads_our_request() -> None:
    whole = encode(REQUEST)
    other = theirs.A_ASSOCIATE_RQ()
    other.decode(whole)
    assert other.called_ae_title == REQUEST.called_ae_title
    assert other.calling_ae_title == REQUEST.calling_ae_title
    assert [
        (context.context_id, context.abstract_syntax, tuple(context.transfer_syntax))
        for context in other.presentation_context
    ] == [
        (context.context_id, context.abstract_syntax, context.transfer_syntaxes)
        for context in REQUEST.presentation_contexts
    ]
    assert_same_items(REQUEST.user_information, other.user_information)
    assert other.encode() == whole


def test_pynetdicom_reads_our_accept() -> None:
    whole = encode(ACCEPT)
    other = theirs.A_ASSOCIATE_AC()
    other.decode(whole)
    results = [(context.context_id, context.result) for context in other.presentation_context]
    assert results == [(1, 0), (3, 3)]
    assert other.presentation_context[0].transfer_syntax == IMPLICIT
    assert other.user_information is not None
    assert other.user_information.maximum_length == ACCEPT.user_information.max_pdu_length
    assert other.encode() == whole


@settings(max_examples=40)
@given(requests)
def test_what_pynetdicom_makes_of_any_request(value: AssociateRequest) -> None:
    info = value.user_information
    # pynetdicom reads an empty primary field or server response as its own length.
    assume(info.user_identity is None or info.user_identity.primary_field)
    assume(info.user_identity_response != b"")
    other = theirs.A_ASSOCIATE_RQ()
    other.decode(encode(value))
    assert decode(other.encode()) == value


@pytest.mark.parametrize(
    ("value", "other_class", "fields"),
    [
        (
            AssociateReject(2, 3, 2),
            theirs.A_ASSOCIATE_RJ,
            ("result", "source", "reason_diagnostic"),
        ),
        (Abort(2, 4), theirs.A_ABORT_RQ, ("source", "reason_diagnostic")),
        (ReleaseRequest(), theirs.A_RELEASE_RQ, ()),
        (ReleaseResponse(), theirs.A_RELEASE_RP, ()),
    ],
)
def test_pynetdicom_agrees_on_four_bytes(
    value: pdu.Pdu, other_class: Any, fields: tuple[str, ...]
) -> None:
    other = other_class()
    other.decode(encode(value))
    mine = [getattr(value, name.removesuffix("_diagnostic")) for name in fields]
    assert [getattr(other, name) for name in fields] == mine
    assert other.encode() == encode(value)


def test_we_read_what_pynetdicom_builds_itself() -> None:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title = "PYNETDICOM"
    primitive.called_ae_title = "ISOCENTER"
    maximum = MaximumLengthNotification()
    maximum.maximum_length_received = 16_382
    primitive.user_information = [maximum]
    context = build_context(CT, [EXPLICIT, IMPLICIT])
    context.context_id = 7
    primitive.presentation_context_definition_list = [context]
    other = theirs.A_ASSOCIATE_RQ()
    other.from_primitive(primitive)
    decoded = decode(other.encode())
    assert decoded == AssociateRequest(
        called_ae_title="ISOCENTER",
        calling_ae_title="PYNETDICOM",
        presentation_contexts=(ProposedContext(7, CT, (EXPLICIT, IMPLICIT)),),
        user_information=UserInformation(max_pdu_length=16_382),
    )
