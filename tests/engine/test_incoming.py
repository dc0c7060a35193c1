"""Messages with their data sets: one answer at the end, however it went."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.wire import CT, established
from isocenter.engine.dimse.message_codec import CStoreRequest
from isocenter.engine.dimse.status import Status
from isocenter.engine.events import DataSetReceived, MessageReceived
from isocenter.engine.incoming import Arrived, Incoming

REQUEST = CStoreRequest(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2")
OTHER = CStoreRequest(message_id=2, affected_sop_class_uid=CT, affected_sop_instance_uid="1.3")
BEGINS = MessageReceived(3, REQUEST, True)
ALONE = MessageReceived(3, REQUEST, False)


def part(data: bytes, *, last: bool = False) -> DataSetReceived:
    return DataSetReceived(3, memoryview(data), last)


def test_without_a_data_set_it_is_whole_at_once() -> None:
    assert Incoming().begin(ALONE) == Arrived(3, REQUEST, None, None)
    assert Incoming().begin(ALONE, Status.SOP_CLASS_NOT_SUPPORTED) == Arrived(
        3, REQUEST, None, Status.SOP_CLASS_NOT_SUPPORTED
    )


@given(st.lists(st.binary(max_size=20), min_size=1))
def test_a_data_set_is_gathered(parts: list[bytes]) -> None:
    incoming = Incoming()
    assert incoming.begin(BEGINS) is None
    *most, last = parts
    for data in most:
        assert incoming.add(part(data)) is None
    assert incoming.add(part(last, last=True)) == Arrived(3, REQUEST, b"".join(parts))
    assert incoming.add(part(b"more", last=True)) is None


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1), st.integers(0, 100))
def test_no_more_than_the_bound_is_gathered(parts: list[bytes], longest: int) -> None:
    incoming = Incoming(longest)
    incoming.begin(BEGINS)
    for number, data in enumerate(parts, 1):
        arrived = incoming.add(part(data, last=number == len(parts)))
        assert len(incoming._gathered) <= longest
    assert arrived is not None
    whole = b"".join(parts)
    if len(whole) <= longest:
        assert arrived == Arrived(3, REQUEST, whole)
    else:
        assert (arrived.status, arrived.data_set) == (Status.OUT_OF_RESOURCES, b"")


def test_a_sink_takes_the_parts_and_may_refuse_the_rest() -> None:
    incoming, taken = Incoming(longest=0), list[bytes]()

    def sink(data: memoryview) -> int | None:
        taken.append(bytes(data))
        return Status.OUT_OF_RESOURCES if data == b"full" else None

    incoming.begin(BEGINS, sink)
    incoming.add(part(b"one"))
    assert incoming.add(part(b"two", last=True)) == Arrived(3, REQUEST, b"")
    incoming.begin(BEGINS, sink)
    incoming.add(part(b"full"))
    incoming.add(part(b"unseen"))
    arrived = incoming.add(part(b"unseen", last=True))
    assert arrived == Arrived(3, REQUEST, b"", Status.OUT_OF_RESOURCES)
    assert taken == [b"one", b"two", b"full"]


def test_what_was_refused_early_is_answered_when_its_data_set_has_come() -> None:
    incoming = Incoming()
    assert incoming.begin(BEGINS, Status.INVALID_SOP_INSTANCE) is None
    assert incoming.add(part(b"dropped")) is None
    assert incoming.add(part(b"", last=True)) == Arrived(
        3, REQUEST, b"", Status.INVALID_SOP_INSTANCE
    )
    incoming.begin(BEGINS)
    incoming.add(part(b"kept"))
    incoming.refuse(Status.PROCESSING_FAILURE)
    assert incoming.add(part(b"", last=True)) == Arrived(3, REQUEST, b"", Status.PROCESSING_FAILURE)


def test_one_message_knows_nothing_of_the_last() -> None:
    incoming = Incoming()
    incoming.begin(BEGINS, Status.PROCESSING_FAILURE)
    incoming.begin(MessageReceived(3, OTHER, True))
    assert incoming.add(part(b"new", last=True)) == Arrived(3, OTHER, b"new")
    incoming.begin(BEGINS)
    incoming.add(part(b"old"))
    incoming.forget()
    assert incoming.add(part(b"old", last=True)) is None
    incoming.begin(BEGINS)
    assert incoming.add(part(b"new", last=True)) == Arrived(3, REQUEST, b"new")


def test_an_engine_tells_that_a_data_set_is_not_complete() -> None:
    from engine.wire import STORE_CONTEXT, p_data, pdv
    from isocenter.engine.dimse.message_codec import encode_message

    end = established()
    end.receive_data(p_data(pdv(STORE_CONTEXT, 3, encode_message(REQUEST, True))))
    assert end.is_receiving_data_set
    end.receive_data(p_data(pdv(STORE_CONTEXT, 0, b"half")))
    assert end.is_receiving_data_set
    end.receive_data(p_data(pdv(STORE_CONTEXT, 2, b"")))
    assert not end.is_receiving_data_set
