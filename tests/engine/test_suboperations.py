"""Counters of C-GET and C-MOVE, and the responses they make (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

import pytest

from isocenter.engine.dimse import (
    CGetRequest,
    CGetResponse,
    CMoveRequest,
    CMoveResponse,
    Status,
    SubOperations,
    decode_message,
    encode_message,
)

MOVE = CMoveRequest(message_id=3, affected_sop_class_uid="1.2", move_destination="THERE")
GET = CGetRequest(message_id=4, affected_sop_class_uid="1.3")


@pytest.mark.parametrize(
    ("statuses", "final"),
    [
        ([], 0x0000),
        ([0x0000, 0x0000], 0x0000),
        ([0x0000, 0xA700], 0xB000),
        ([0xB006, 0x0000], 0xB000),
        ([0xB006, None], 0xB000),
        ([0xA700, None], 0xA702),
    ],
)
def test_final_status(statuses: list[int | None], final: int) -> None:
    counters = SubOperations(len(statuses))
    for position, status in enumerate(statuses):
        counters.count(f"1.{position}", status)
    assert counters.final_status() == final
    assert counters.response_to(GET).status == final


def test_every_sub_operation_is_counted_once() -> None:
    counters = SubOperations(5)
    for uid, status in (("1", 0), ("2", 0xB000), ("3", 0xC000), ("4", None)):
        counters.count(uid, status)
    assert (counters.remaining, counters.completed, counters.warning, counters.failed) == (
        1,
        1,
        1,
        2,
    )
    assert counters.failed_uids == ["3", "4"]


@pytest.mark.parametrize(
    ("status", "remaining"),
    [(Status.PENDING, 2), (Status.CANCEL, 2), (Status.SUCCESS, None), (0xA702, None)],
)
def test_remaining_is_told_while_there_is_a_rest(status: int, remaining: int | None) -> None:
    """PS3.7 9.1.3.1.6, 9.1.4.1.7."""
    response = SubOperations(2).response_to(MOVE, status)
    assert isinstance(response, CMoveResponse)
    assert response.message_id_being_responded_to == 3
    assert response.number_of_remaining_suboperations == remaining
    assert response.number_of_completed_suboperations == 0


def test_each_request_gets_its_kind() -> None:
    assert isinstance(SubOperations(0).response_to(GET), CGetResponse)


def test_counters_beyond_their_vr_are_told_as_the_most_it_holds() -> None:
    """An archive may send more at once than a US can count."""
    counters = SubOperations(200_000)
    for number in range(70_000):
        counters.count(f"1.{number}", 0 if number % 2 else None)
    response = counters.response_to(MOVE, Status.PENDING)
    assert response.number_of_remaining_suboperations == 65_535
    assert response.number_of_completed_suboperations == 35_000
    decoded, has_data_set = decode_message(encode_message(response, False))
    assert decoded == response
    assert not has_data_set
    assert counters.remaining == 130_000
