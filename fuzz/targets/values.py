"""Invariant: what a user wants to say is refused, or the peer reads what was meant.

Input: a byte for what is said, and bytes from which its values are chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from choosing import Choices
from wording import check_fault, check_line

from isocenter.engine import pdu
from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Element,
    Fragments,
    WritableElement,
    read_data_set,
    write_data_set,
)
from isocenter.engine.dataset.vr import LONG_VRS, SHORT_VRS
from isocenter.engine.dimse.message_codec import (
    CGetRequest,
    CMoveRequest,
    Message,
    decode_message,
    encode_message,
)
from isocenter.engine.dimse.message_fields import FIELDS, MESSAGES
from isocenter.engine.dimse.status import ServiceClass, describe_status, is_final
from isocenter.engine.dimse.suboperations import SubOperations
from isocenter.engine.errors import LocalProtocolError
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
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.negotiation import (
    ANY,
    Acceptor,
    Offer,
    Role,
    associate_request,
    context_for,
    negotiate,
    negotiated_from,
)
from isocenter.engine.pdu import AssociateAccept, AssociateRequest

_HEADER_LENGTH: Final = 6
_VRS: Final = (None, *sorted(LONG_VRS | SHORT_VRS), "XX")
_TAGS: Final = (0x0008_0018, 0x0008_1140, 0x0009_1001, 0x0010_0010, 0x0028_0010, 0x7FE0_0010)
_ENCODINGS: Final = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG)
_NESTING: Final = 3
_COMMENT_LENGTH: Final = 64


def run(data: bytes) -> None:
    choices = Choices(data)
    say = choices.one_of((_pdu, _message, _data_set, _counters, _request))
    try:
        say(choices)
    except LocalProtocolError as fault:
        check_fault(fault)


# PDUs.


def _information(choices: Choices) -> UserInformation:
    c = choices
    return UserInformation(
        max_pdu_length=c.number(),
        implementation_class_uid=c.uid(),
        implementation_version_name=c.text(),
        asynchronous_operations_window=c.perhaps(
            lambda: AsynchronousOperationsWindow(c.number(), c.number())
        ),
        role_selections=c.some(lambda: RoleSelection(c.uid(), c.flag(), c.flag())),
        extended_negotiations=c.some(lambda: ExtendedNegotiation(c.uid(), c.raw())),
        common_extended_negotiations=c.some(
            lambda: CommonExtendedNegotiation(c.uid(), c.uid(), c.some(c.uid))
        ),
        user_identity=c.perhaps(lambda: UserIdentity(c.number(), c.flag(), c.raw(), c.raw())),
        user_identity_response=c.perhaps(c.raw),
    )


def _pdu(choices: Choices) -> None:
    c = choices
    kind = c.byte() % 4
    value: pdu.Pdu
    if kind == 0:
        value = AssociateRequest(
            called_ae_title=c.text(),
            calling_ae_title=c.text(),
            presentation_contexts=c.some(
                lambda: ProposedContext(c.number(), c.uid(), c.some(c.uid))
            ),
            user_information=_information(c),
            application_context_name=c.uid(),
            protocol_version=c.number(),
        )
        check_line(value)
        encoded = pdu.encode_associate_request(value)
    elif kind == 1:
        value = AssociateAccept(
            called_ae_title=c.text(),
            calling_ae_title=c.text(),
            presentation_contexts=c.some(lambda: ContextResult(c.number(), c.number(), c.uid())),
            user_information=_information(c),
            application_context_name=c.uid(),
            protocol_version=c.number(),
        )
        check_line(value)
        encoded = pdu.encode_associate_accept(value)
    elif kind == 2:
        value = pdu.AssociateReject(c.number(), c.number(), c.number())
        encoded = pdu.encode_associate_reject(value)
    else:
        value = pdu.Abort(c.number(), c.number())
        encoded = pdu.encode_abort(value)
    assert int.from_bytes(encoded[2:_HEADER_LENGTH], "big") == len(encoded) - _HEADER_LENGTH
    read = pdu.decode_pdu(encoded[0], encoded[_HEADER_LENGTH:], DEFAULT_LIMITS)
    assert _without_what_means_nothing(read) == _without_what_means_nothing(value)


def _without_what_means_nothing(value: pdu.Pdu) -> object:
    """Padding of AE titles and names, and the transfer syntax of a refused context."""
    match value:
        case AssociateRequest() | AssociateAccept():
            info = value.user_information
            contexts = [
                (context.context_id, context.result)
                if isinstance(context, ContextResult) and context.result
                else context
                for context in value.presentation_contexts
            ]
            return (
                type(value),
                value.called_ae_title.strip(" "),
                value.calling_ae_title.strip(" "),
                contexts,
                value.application_context_name,
                value.protocol_version,
                {
                    name: getattr(info, name)
                    for name in UserInformation.__slots__
                    if name != "implementation_version_name"
                },
                info.implementation_version_name.strip(" "),
            )
        case _:
            return value


# Messages.


def _message(choices: Choices) -> None:
    rule = choices.one_of(MESSAGES)
    make: dict[str, Callable[[], Any]] = {
        "UI": choices.uid,
        "US": choices.number,
        "AE": choices.text,
        "LO": choices.text,
        "AT": lambda: choices.some(choices.number),
    }
    message_class: Callable[..., Message] = rule.message_class
    message = message_class(**{name: make[FIELDS[name].vr]() for name in rule.fields})
    check_line(message)
    has_data_set = choices.flag()
    read, read_has_data_set = decode_message(encode_message(message, has_data_set))
    assert type(read) is type(message)
    assert read_has_data_set is (has_data_set and rule.name != "C-CANCEL-RQ")
    for name in rule.fields:
        said, heard = getattr(message, name), getattr(read, name)
        if isinstance(said, str):
            # Padding means nothing, and what ISO 8859-1 or an LO cannot hold is replaced.
            assert len(heard) <= len(said)
            if said.isascii() and said.isprintable() and "\\" not in said:
                cut = said[:_COMMENT_LENGTH].strip(" ")
                assert heard in (cut, said.strip(" "), said.rstrip(" "))
        else:
            assert heard == said


# Data sets.


def _items(choices: Choices, depth: int) -> list[list[WritableElement]]:
    return [_elements(choices, depth) for _ in range(choices.byte() % 3)]


def _elements(choices: Choices, depth: int = 0) -> list[WritableElement]:
    elements: list[WritableElement] = []
    for tag in _TAGS:
        kind = choices.byte()
        if kind & 1:
            continue
        vr = choices.one_of(_VRS)
        if vr == "SQ" or (kind & 2 and depth < _NESTING):
            items = _items(choices, depth + 1) if depth < _NESTING else []
            elements.append((tag, vr, items))
        elif kind & 4:
            elements.append((tag, vr, Fragments(choices.some(choices.raw))))
        elif kind & 8 and tag == _TAGS[0] and not depth:  # one that is too long for most VRs
            elements.append((tag, vr, bytes(choices.number() & 0x1_FFFF)))
        else:
            elements.append((tag, vr, choices.raw()))
    return elements


def _data_set(choices: Choices) -> None:
    encoding = choices.one_of(_ENCODINGS)
    elements = _elements(choices)
    read = read_data_set(write_data_set(elements, encoding), encoding, DEFAULT_LIMITS)
    assert list(read) == [tag for tag, _, _ in elements]
    for tag, _, value in elements:
        _compare(read[tag], value, is_implicit=encoding.implicit_vr)


def _compare(element: Element, value: object, *, is_implicit: bool) -> None:
    match value:
        case bytes():
            assert isinstance(element.value, bytes)
            assert element.value[: len(value)] == value
            assert len(element.value) == len(value) + (len(value) & 1)
        case Fragments():
            assert isinstance(element.value, Fragments)
            assert len(element.value) == len(value)
        case list() if not is_implicit:  # implicit VR does not say that it is a sequence
            assert isinstance(element.value, tuple)
            for item, said in zip(element.value, value, strict=True):
                assert list(item) == [tag for tag, _, _ in said]


# What drivers and services ask of the core.


def _counters(choices: Choices) -> None:
    """Sub-operations are counted, and every status has words."""
    counters = SubOperations(remaining=8)
    for _ in range(8):
        counters.count(choices.uid(), choices.perhaps(choices.number))
    assert counters.remaining == 0
    assert counters.completed + counters.failed + counters.warning == 8
    assert len(counters.failed_uids) == counters.failed
    request: CGetRequest | CMoveRequest = (
        CGetRequest(message_id=1, affected_sop_class_uid="1.2")
        if choices.flag()
        else CMoveRequest(message_id=1, affected_sop_class_uid="1.2", move_destination="A")
    )
    for status in (None, 0xFF00, 0xFE00):
        response = counters.response_to(request, status)
        check_line(response)
        assert is_final(response.status) is (status != 0xFF00)
        assert decode_message(encode_message(response, has_data_set=False)) == (response, False)
    status = choices.number()
    for service in (None, *ServiceClass):
        words = describe_status(status, service)
        assert words
        assert words.isprintable()


def _request(choices: Choices) -> None:
    """A request of a driver is understood, and its contexts are found."""
    c = choices
    request = associate_request(
        c.text(), c.text(), [(c.uid(), c.some(c.uid)) for _ in range(c.byte() % 140)]
    )
    encoded = pdu.encode_associate_request(request)
    read = pdu.decode_pdu(encoded[0], encoded[_HEADER_LENGTH:], DEFAULT_LIMITS)
    assert isinstance(read, AssociateRequest)
    offer = Offer(transfer_syntaxes=(ANY,), scp_role=c.flag(), scu_role=c.flag())
    answer = negotiate(read, Acceptor(offer=lambda _: offer, max_pdu_length=c.number() & 0xFFFF))
    assert isinstance(answer, AssociateAccept)
    pdu.encode_associate_accept(answer)
    negotiated = negotiated_from(request, answer, Role.REQUESTOR)
    context = context_for(negotiated, c.uid(), c.perhaps(c.uid))
    assert context.as_scu
    assert context.context_id in negotiated.contexts
