"""Seeds that are PDUs, messages and associations."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from corpora import Seeds
from playing import (
    COMMITMENT_CONTEXT,
    ECHO_CONTEXT,
    FIND_CONTEXT,
    FIRST_STEP,
    NO_CONTEXT,
    REQUEST,
    STORE_CONTEXT,
    Step,
    accept,
    chunk_code,
    chunk_length,
)

from isocenter.engine import pdu
from isocenter.engine.dimse.message_codec import Message, NGetRequest, encode_message
from isocenter.engine.dimse.message_fields import FIELDS, MESSAGES, MessageRule, Presence
from isocenter.engine.dimse.status import Status
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
from isocenter.engine.pdu import AssociateAccept, AssociateRequest
from isocenter.engine.uid import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)

_INFORMATION: Final = UserInformation(
    max_pdu_length=16_384,
    implementation_class_uid="1.2.3",
    implementation_version_name="SEED",
    asynchronous_operations_window=AsynchronousOperationsWindow(0, 2),
    role_selections=(RoleSelection("1.2.8", scu_role=True, scp_role=True),),
    extended_negotiations=(ExtendedNegotiation("1.2.840.10008.5.1.4.1.2.1.1", b"\1\0\1"),),
    common_extended_negotiations=(CommonExtendedNegotiation("1.2.8", "1.2.7", ("1.2.6",)),),
    user_identity=UserIdentity(2, True, b"name", b"word"),
)
_RQ: Final = AssociateRequest(
    called_ae_title="ISOCENTER",
    calling_ae_title="SEED",
    presentation_contexts=(
        ProposedContext(1, VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,)),
        ProposedContext(3, "1.2.8", (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)),
        ProposedContext(5, "1.2.840.10008.5.1.4.1.2.1.1", (IMPLICIT_VR_LITTLE_ENDIAN,)),
        ProposedContext(7, "1.2.9", (IMPLICIT_VR_LITTLE_ENDIAN,)),
    ),
    user_information=_INFORMATION,
)
_AC: Final = AssociateAccept(
    called_ae_title="ISOCENTER",
    calling_ae_title="SEED",
    presentation_contexts=(
        ContextResult(1, 0, IMPLICIT_VR_LITTLE_ENDIAN),
        ContextResult(3, 3),
        ContextResult(5, 4),
    ),
    user_information=replace(_INFORMATION, user_identity=None, user_identity_response=b"ticket"),
)
_PDUS: Final = {
    "a-associate-rq": pdu.encode_associate_request(_RQ),
    "a-associate-rq-plain": pdu.encode_associate_request(
        replace(_RQ, user_information=UserInformation(), presentation_contexts=())
    ),
    "a-associate-ac": pdu.encode_associate_accept(_AC),
    "a-associate-rj": pdu.encode_associate_reject(pdu.AssociateReject(2, 3, 2)),
    "a-release-rq": pdu.encode_release_request(),
    "a-release-rp": pdu.encode_release_response(),
    "a-abort": pdu.encode_abort(pdu.Abort(2, 6)),
}


def _p_data(*pdvs: tuple[int, int, bytes]) -> bytes:
    """One P-DATA-TF: context ID, message control header and fragment of each PDV."""
    body = b"".join(
        struct.pack(">IBB", len(fragment) + 2, context_id, control) + fragment
        for context_id, control, fragment in pdvs
    )
    return struct.pack(">BxI", 4, len(body)) + body


def framing() -> Seeds:
    streams = dict(_PDUS)
    streams["p-data-tf"] = _p_data((1, 3, b"command"), (1, 0, b""), (1, 0, b"data"), (1, 2, b"end"))
    streams["many"] = b"".join(streams[name] for name in ("p-data-tf", "a-abort")) * 2
    streams["unrecognized"] = b"\x5a\0\0\0\0\0"
    streams["too-long"] = b"\4\0\xff\xff\xff\xff" + bytes(10)
    streams["without-pdv"] = b"\4\0\0\0\0\0" + _PDUS["a-abort"]
    streams["even-context"] = _p_data((2, 3, b"command"))
    streams["abort-too-long"] = b"\7\0\0\0\0\5" + bytes(5)
    # The length of the only PDV, of 7 bytes, in a P-DATA-TF of 11; then more bytes.
    for length in (0, 1, 2, 6, 8, 11):
        pdu_data = _p_data((1, 3, b"12345"))
        streams[f"pdv-of-{length}"] = pdu_data[:9] + bytes((length,)) + pdu_data[10:] * 3
    return {
        f"{name}-{cut}": bytes((cut, cut & 1)) + stream
        for name, stream in streams.items()
        for cut in (1, 4)
    }


def pdus() -> Seeds:
    bodies = {name: (data[0], data[6:]) for name, data in _PDUS.items()}
    kind, request = bodies["a-associate-rq"]
    # One byte more than there is: in an item, and in a sub-item of the user information.
    bodies["item-too-long"] = kind, request[:71] + bytes((request[71] + 200,)) + request[72:]
    bodies["sub-item-too-long"] = kind, request.replace(b"\x55\0\0\4", b"\x55\0\0\x7f")
    bodies["last-item-cut"] = kind, request[:-1]
    bodies["header-cut"] = kind, request + b"\x60\0\0"
    return {name: bytes((kind, 0x16)) + body for name, (kind, body) in bodies.items()}


_VALUES: Final[dict[str, Any]] = {
    "UI": "1.2.840.10008.1.1",
    "US": 1,
    "AE": "SEED",
    "LO": "comment",
    "AT": (0x0010_0020, 0x0010_0010),
}


def _message(rule: MessageRule, only_mandatory: bool, **numbers: int) -> Message:
    """A message with a value in each field; *numbers* go before the usual ones."""
    make: Callable[..., Message] = rule.message_class
    return make(
        **{
            name: numbers.get(name, _VALUES[FIELDS[name].vr])
            for name, presence in rule.fields.items()
            if presence is Presence.MANDATORY or not only_mandatory
        }
    )


def messages() -> Seeds:
    seeds: Seeds = {}
    for rule in MESSAGES:
        for ending, only_mandatory in (("", False), ("-short", True)):
            body = encode_message(_message(rule, only_mandatory), bool(rule.data_set))
            seeds[rule.name.lower() + ending] = bytes((len(seeds),)) + body
    unknown = bytearray(seeds["c-echo-rq"])
    unknown[unknown.index(b"\x30\0\0\0\x10\1")] = 0x77  # the value of Command Field
    attributes = NGetRequest(
        message_id=1,
        requested_sop_class_uid="1.2",
        requested_sop_instance_uid="1.3",
        attribute_identifier_list=tuple(range(200)),
    )
    return seeds | {
        "unknown-command": bytes(unknown),
        "long": b"\1" + encode_message(attributes, has_data_set=False),
    }


def _command(
    context_id: int,
    number: int,
    name: str,
    data: bytes | None = None,
    status: int = Status.PENDING,
) -> bytes:
    """A message as PDUs; with its data set in a P-DATA-TF of its own."""
    rule = next(rule for rule in MESSAGES if rule.name == name)
    numbers = dict.fromkeys(("message_id", "message_id_being_responded_to"), number)
    if name == "C-FIND-RSP":
        numbers["status"] = status
    message = _message(rule, only_mandatory=False, **numbers)
    out = _p_data((context_id, 3, encode_message(message, data is not None)))
    if data is None:
        return out
    half = len(data) // 2
    return out + _p_data((context_id, 0, data[:half]), (context_id, 2, data[half:]))


def _association(how: int, *moves: Step | bytes) -> bytes:
    """An input of `playing.play`: steps of the user, and what the peer sends between them."""
    script = bytearray()
    for move in moves:
        if isinstance(move, Step):
            script.append(FIRST_STEP + move)
            continue
        left = len(move)
        while left:
            code = chunk_code(left)
            script.append(code)
            left -= chunk_length(code)
    stream = b"".join(move for move in moves if isinstance(move, bytes))
    return bytes((how, len(script))) + script + stream


_RELEASE: Final = (pdu.encode_release_request(), pdu.encode_release_response())
_ABORT: Final = pdu.encode_abort(pdu.Abort(0, 0))


def _faults() -> dict[str, bytes]:
    """What a peer may not send on an established association, one fault each."""
    store = _command(STORE_CONTEXT, 1, "C-STORE-RQ", b"data set")
    command = store[12 : 12 + int.from_bytes(store[6:10], "big") - 2]
    unknown = command.replace(b"\0\1\2\0\0\0\1\0", b"\0\1\2\0\0\0\x77\0")
    return {
        "two-contexts": _p_data((STORE_CONTEXT, 1, command[:9]), (ECHO_CONTEXT, 3, command[9:])),
        "empty-fragments": _p_data(*[(STORE_CONTEXT, 1, b"")] * 5),
        "command-in-data-set": _p_data((STORE_CONTEXT, 3, command), (STORE_CONTEXT, 3, command)),
        "data-before-command": _p_data((STORE_CONTEXT, 2, b"data")),
        "long-command": _p_data((STORE_CONTEXT, 1, command * 2), (STORE_CONTEXT, 3, command)),
        "context-not-accepted": _p_data((NO_CONTEXT, 3, command)),
        "even-context": _p_data((2, 3, command)),
        "unknown-command": _p_data((STORE_CONTEXT, 3, unknown), (STORE_CONTEXT, 2, b"data")),
        "message-id-taken": store + store,
        "answer-to-nothing": _command(ECHO_CONTEXT, 9, "C-ECHO-RSP"),
        "cancel-of-nothing": _command(FIND_CONTEXT, 9, "C-CANCEL-RQ"),
        "unrecognized-pdu": b"\x5a\0\0\0\0\0",
        "garbage": bytes(range(7, 64)),
    }


def _established_faults() -> Seeds:
    """Each fault under small limits, while we wait for the release, and after our abort."""
    return {
        f"{name}-{when}": _association(how, *moves, fault, Step.OBLIGE, _RELEASE[1])
        for name, fault in _faults().items()
        for when, how, *moves in (
            ("limits", 3),
            ("releasing", 1, Step.ASK_RELEASE),
            ("aborted", 1, Step.ABORT),
        )
    }


def acceptor() -> Seeds:
    request = pdu.encode_associate_request(REQUEST)
    old = pdu.encode_associate_request(replace(REQUEST, protocol_version=2))
    foreign = pdu.encode_associate_request(replace(REQUEST, application_context_name="1.2"))
    tiny = pdu.encode_associate_request(
        replace(REQUEST, user_information=UserInformation(max_pdu_length=7))
    )
    store = _command(STORE_CONTEXT, 1, "C-STORE-RQ", b"data set")
    find = _command(FIND_CONTEXT, 2, "C-FIND-RQ", b"identifier")
    echo = _command(ECHO_CONTEXT, 3, "C-ECHO-RQ")
    cancel = _command(FIND_CONTEXT, 2, "C-CANCEL-RQ")
    stored = _command(STORE_CONTEXT, 1, "C-STORE-RSP")
    return {
        "whole": _association(
            0,
            request,
            Step.ACCEPT,
            store,
            Step.ANSWER,
            echo,
            Step.ANSWER,
            _RELEASE[0],
            Step.GRANT_RELEASE,
            Step.ARTIM,
        ),
        "rejected": _association(0, request, Step.REJECT, _ABORT),
        "pieces": _association(1, store[:40], store[40:-3], store[-3:], Step.ANSWER),
        "find": _association(
            1,
            find,
            Step.ANSWER_PENDING,
            Step.ANSWER_PENDING,
            cancel,
            Step.ANSWER_PENDING,
            Step.ANSWER_CANCELLED,
        ),
        "release-within-find": _association(1, find, _RELEASE[0], Step.ANSWER, Step.GRANT_RELEASE),
        "collision": _association(
            1, Step.ASK_RELEASE, _RELEASE[0], _RELEASE[1], Step.GRANT_RELEASE, Step.ARTIM
        ),
        "release-first": _association(1, Step.ASK_RELEASE, store, _RELEASE[1]),
        "window": _association(1, echo, store, find, store, Step.OBLIGE),
        "as-scu": _association(
            1,
            Step.STREAM,
            Step.SEND_PART,
            Step.SEND_LONG_END,
            stored,
            Step.ECHO,
            Step.CANCEL,
            Step.STORE,
        ),
        "lost": _association(4, request[:100], Step.LOSE),
        "lost-later": _association(4, request, Step.ACCEPT, Step.STREAM, Step.SEND_PART),
        "artim": _association(0, request[:100], Step.ARTIM, request),
        "limits": _association(3, store, store),
        "unexpected": _association(0, request, request, echo, Step.ARTIM),
        "unexpected-later": _association(1, request, store, _ABORT),
        "aborted": _association(5, store, _ABORT),
        "old-version": _association(0, old, request, Step.ARTIM),
        "foreign-context": _association(0, foreign),
        "tiny-maximum": _association(0, tiny),
        "wrong-way-round": _association(0, pdu.encode_associate_accept(accept())),
        "any-step": _association(1, find, *Step),
        "any-step-first": _association(0, *list(Step)[: Step.LOSE], request),
        "any-step-asked": _association(0, request, *list(Step)[1:]),
    } | _established_faults()


def requestor() -> Seeds:
    answer = pdu.encode_associate_accept(accept())
    found = _command(FIND_CONTEXT, 1, "C-FIND-RSP", b"match")
    last = _command(FIND_CONTEXT, 1, "C-FIND-RSP", status=Status.SUCCESS)
    cancelled = _command(FIND_CONTEXT, 1, "C-FIND-RSP", status=Status.CANCEL)
    got = _command(FIND_CONTEXT, 1, "C-GET-RSP")
    store = _command(STORE_CONTEXT, 7, "C-STORE-RQ", b"data set")
    stored = [_command(STORE_CONTEXT, number, "C-STORE-RSP") for number in (1, 2)]
    echoed = _command(ECHO_CONTEXT, 1, "C-ECHO-RSP")
    report = _command(COMMITMENT_CONTEXT, 9, "N-EVENT-REPORT-RQ", b"info")
    rejected = pdu.encode_associate_reject(pdu.AssociateReject(1, 1, 7))
    return {
        "whole": _association(0, answer, Step.ECHO, echoed, Step.ASK_RELEASE, _RELEASE[1]),
        "rejected": _association(0, rejected),
        "rejected-later": _association(1, rejected),
        "find": _association(1, Step.FIND, found, found, Step.CANCEL, found, cancelled),
        "cancelled-late": _association(1, Step.FIND, Step.CANCEL, last, cancelled, cancelled),
        "cancelled-late-with-data": _association(
            1,
            Step.FIND,
            Step.CANCEL,
            last,
            _command(FIND_CONTEXT, 1, "C-FIND-RSP", b"data", status=Status.CANCEL),
            found,
        ),
        "message-within-data-set": _association(1, Step.STREAM, Step.ECHO, Step.SEND_END),
        "get": _association(1, Step.GET, store, Step.ANSWER, got, store, Step.ANSWER),
        "move": _association(1, Step.MOVE, Step.CANCEL, _command(FIND_CONTEXT, 1, "C-MOVE-RSP")),
        "stream": _association(
            1, Step.STREAM, Step.SEND_PART, Step.SEND_LONG_END, Step.STORE, *stored
        ),
        "release-within": _association(
            1, Step.STREAM, Step.ASK_RELEASE, Step.GRANT_RELEASE, Step.SEND_END, stored[0]
        ),
        "commitment": _association(
            1,
            Step.ACTION,
            _command(COMMITMENT_CONTEXT, 1, "N-ACTION-RSP"),
            report,
            Step.ANSWER,
            Step.ASK_RELEASE,
            report,
            _RELEASE[1],
        ),
        "collision": _association(
            1, Step.ASK_RELEASE, _RELEASE[0], Step.GRANT_RELEASE, _RELEASE[1]
        ),
        "collision-aborted": _association(1, Step.ASK_RELEASE, _RELEASE[0], answer),
        "released": _association(0, answer, _RELEASE[0], Step.GRANT_RELEASE, answer, Step.ARTIM),
        "aborted": _association(1, Step.STREAM, pdu.encode_abort(pdu.Abort(2, 1))),
        "aborts": _association(1, Step.ABORT, found, rejected, answer, _ABORT),
        "other-kind": _association(1, Step.ECHO, _command(ECHO_CONTEXT, 1, "C-STORE-RSP")),
        "other-context": _association(1, Step.ECHO, _command(STORE_CONTEXT, 1, "C-ECHO-RSP")),
        "before-open": _association(4, Step.ECHO, Step.ASK_RELEASE, Step.ABORT, Step.LOSE, answer),
        "limits": _association(3, Step.FIND, found, found),
        "twice": _association(0, answer, answer, found),
        "not-proposed": _association(
            0,
            pdu.encode_associate_accept(
                replace(
                    accept(), presentation_contexts=(ContextResult(11, 0, "1.2.840.10008.1.2"),)
                )
            ),
        ),
        "tiny-maximum": _association(
            0,
            pdu.encode_associate_accept(
                replace(accept(), user_information=UserInformation(max_pdu_length=7))
            ),
        ),
        "small-maximum": _association(
            0,
            pdu.encode_associate_accept(
                replace(accept(), user_information=UserInformation(max_pdu_length=64))
            ),
            Step.STORE,
        ),
        "any-step": _association(1, *Step, found),
        "any-step-first": _association(0, *list(Step)[: Step.ABORT], answer),
    } | _established_faults()


def values() -> Seeds:
    """Each kind with choices that make something to say, and with none."""
    kinds = ("pdu", "message", "data-set", "counters", "request")
    some = bytes(range(1, 250, 2))
    # One context, accepted; then asked for one whose name is a line feed.
    no_context = b"\4\1\0\1\0\1\1\0\1\1\1\0\1\0\0\1\x15\0"
    return {"request-of-no-context": no_context} | {
        f"{kind}-{ending}": bytes((number,)) + choices
        for number, kind in enumerate(kinds)
        for ending, choices in (
            ("zeros", bytes(40)),
            ("ascending", some),
            ("even", bytes(range(0, 250, 2)) * 2),
        )
    }
