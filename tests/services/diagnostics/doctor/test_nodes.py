"""What doctor says of the nodes of an archive."""

from __future__ import annotations

from typing import Any

from isocenter.services.cluster.member import Member, MemberState
from isocenter.services.diagnostics.doctor.nodes import assess_nodes


def member(name: str, **changes: Any) -> Member:
    values: dict[str, Any] = {
        "name": name, "state": MemberState.UP, "address": "A@a:1", "version": "1.0",
        "started_at": 0.0, "silent_seconds": 1.0, "clock_offset": 0.1, "answer_seconds": 0.002,
    }  # fmt: skip
    return Member(**{**values, **changes})


def said(*members: Member, own_clock_offset: float = 0.0) -> list[str]:
    result = assess_nodes(members, own_clock_offset=own_clock_offset)
    return [finding.text for finding in result.findings]


def test_nodes_that_do_well_need_no_words() -> None:
    assert said(member("one"), member("two"), member("old", state=MemberState.STOPPED)) == []


def test_a_lost_node_is_named() -> None:
    lost = member("two", state=MemberState.LOST, silent_seconds=80.0, clock_offset=99.0)
    assert said(member("one"), lost) == ["the node two was heard 80 s ago"]


def test_clocks_that_differ_are_named() -> None:
    assert said(member("one", clock_offset=-3_600.0), own_clock_offset=7.0) == [
        "the clock of the node one is 3600 s behind the database's",
        "the clock of this machine is 7 s ahead of the database's",
    ]


def test_a_database_that_is_far_away_is_named() -> None:
    assert said(member("one", answer_seconds=0.5)) == [
        "the database takes 500 ms to answer the node one"
    ]


def test_an_upgrade_that_is_not_through_is_named() -> None:
    assert said(member("one"), member("two", version="1.1")) == [
        "nodes run several versions: 1.0, 1.1"
    ]
