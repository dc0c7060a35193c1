"""A-ASSOCIATE-RQ PDUs that come again: found by their bytes, bounded, without secrets."""

from __future__ import annotations

from dataclasses import replace

from isocenter.engine.associate_cache import AssociateRequests
from isocenter.engine.items import ProposedContext, UserIdentity, UserInformation
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.pdu import AssociateRequest, decode_pdu, encode_associate_request

HEADER = 6
REQUEST = AssociateRequest(
    called_ae_title="ARCHIVE",
    calling_ae_title="CT",
    presentation_contexts=(ProposedContext(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",)),),
    user_information=UserInformation(max_pdu_length=16384, implementation_class_uid="1.2.3"),
)
BODY = encode_associate_request(REQUEST)[HEADER:]


def test_the_same_bytes_are_read_once() -> None:
    first = decode_pdu(1, BODY, DEFAULT_LIMITS)
    assert first == REQUEST
    assert decode_pdu(1, bytearray(BODY), DEFAULT_LIMITS) is first


def test_other_limits_judge_anew() -> None:
    known = AssociateRequests()
    known.remember(BODY, DEFAULT_LIMITS, REQUEST)
    assert known.find(BODY, DEFAULT_LIMITS) is REQUEST
    assert known.find(BODY, Limits(presentation_contexts=1)) is None
    assert known.find(BODY[:-1], DEFAULT_LIMITS) is None


def test_who_says_a_passcode_is_not_remembered() -> None:
    identity = UserIdentity(2, True, b"user", b"passcode")
    secret = replace(
        REQUEST, user_information=replace(REQUEST.user_information, user_identity=identity)
    )
    body = encode_associate_request(secret)[HEADER:]
    first, second = (decode_pdu(1, body, DEFAULT_LIMITS) for _ in range(2))
    assert first == second == secret
    assert first is not second


def test_what_is_kept_has_a_bound() -> None:
    known = AssociateRequests()
    bodies = [number.to_bytes(4, "big") * 2048 for number in range(100)]
    for body in bodies:
        known.remember(body, DEFAULT_LIMITS, REQUEST)
    kept = [body for body in bodies if known.find(body, DEFAULT_LIMITS)]
    assert bodies[-1] in kept
    assert sum(map(len, kept)) <= 256 << 10
    too_long = bytes(1 << 20)
    known.remember(too_long, DEFAULT_LIMITS, REQUEST)
    assert known.find(too_long, DEFAULT_LIMITS) is None
