"""Byte streams of a peer: valid ones as hypothesis draws them, and what mutation makes of them."""

from __future__ import annotations

from hypothesis import strategies as st

from engine.wire import (
    A_ABORT,
    ASSOCIATE_RQ,
    CT,
    P_DATA_ECHO,
    PDUS,
    RELEASE_RP,
    RELEASE_RQ,
    STORE_CONTEXT,
    p_data,
    pdv,
)
from isocenter.engine.dimse.message_codec import (
    CCancelRequest,
    CFindRequest,
    CStoreRequest,
    Message,
    encode_message,
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message cut into PDVs and PDUs somehow, as PS3.8 Annex E allows."""
    has_data_set = draw(st.booleans())
    kinds: list[Message] = [
        CStoreRequest(message_id=7, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2"),
        CFindRequest(message_id=8, affected_sop_class_uid=CT),
        CCancelRequest(message_id_being_responded_to=8),
    ]
    message = draw(st.sampled_from(kinds))
    has_data_set = has_data_set and not isinstance(message, CCancelRequest)
    pdvs = fragments(draw, encode_message(message, has_data_set), is_command=True)
    if has_data_set:
        pdvs += fragments(draw, draw(st.binary(max_size=60)), is_command=False)
    stream = b""
    while pdvs:
        count = draw(st.integers(1, len(pdvs)))
        stream += p_data(*pdvs[:count])
        pdvs = pdvs[count:]
    return stream


def fragments(draw: st.DrawFn, data: bytes, *, is_command: bool) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
    parts = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [
        pdv(STORE_CONTEXT, is_command | (2 if position == len(parts) - 1 else 0), part)
        for position, part in enumerate(parts)
    ]


#: What may follow an A-ASSOCIATE-RQ, in any order and also where it is not expected.
traffic = st.lists(messages() | st.sampled_from([P_DATA_ECHO, *PDUS.values()]), max_size=5).map(
    b"".join
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """All that a requestor sends."""
    end = draw(st.sampled_from([b"", RELEASE_RQ, RELEASE_RP, A_ABORT]))
    return ASSOCIATE_RQ + draw(st.lists(messages(), max_size=4).map(b"".join) | traffic) + end


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A stream with some bytes changed, taken out, put in, or its end missing."""
    stream = bytearray(draw(streams()))
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, len(stream) - 1))
        match draw(st.sampled_from(["change", "remove", "insert", "cut"])):
            case "change":
                stream[position] = draw(st.integers(0, 255))
            case "remove":
                del stream[position : position + draw(st.integers(1, 8))]
            case "insert":
                stream[position:position] = draw(st.binary(min_size=1, max_size=8))
            case _:
                del stream[max(position, 1) :]
        if not stream:
            break
    return bytes(stream)
