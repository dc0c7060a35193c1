"""What follows from what each of two archives has of a study."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.workflow.nodes.ports import ObjectDigest
from isocenter.services.workflow.synchronization.comparison import (
    UNKNOWN,
    Direction,
    KnownStudy,
    Resolution,
    Step,
    SyncOptions,
    difference,
    step_for,
)

COUNTS = st.one_of(st.none(), st.integers(1, 3))
OPTIONS = st.builds(
    SyncOptions,
    node=st.just("N"),
    direction=st.sampled_from(Direction),
    is_full=st.booleans(),
    deletes=st.booleans(),
    resolution=st.sampled_from([None, *Resolution]),
)
KNOWN = st.one_of(
    st.none(),
    st.builds(
        KnownStudy,
        study_instance_uid=st.just("1"),
        here=st.integers(0, 3),
        there=st.integers(0, 3),
        was_alike=st.booleans(),
        is_left=st.booleans(),
    ),
)


@given(COUNTS, COUNTS, KNOWN, OPTIONS)
def test_nothing_goes_where_it_was_not_to_go_and_nothing_is_deleted_unasked(
    here: int | None, there: int | None, known: KnownStudy | None, options: SyncOptions
) -> None:
    step = step_for(here, there, known, options)
    if step is Step.PUSH:
        assert options.direction.pushes
        assert here is not None
        assert there is None
    if step is Step.PULL:
        assert options.direction.pulls or options.resolution is Resolution.REMOTE
        assert here is None
    if step is Step.DELETE:
        assert options.deletes
        assert options.direction.pulls
        assert known is not None
        assert known.was_alike
        assert known.here == here
        assert there is None
    if here is not None and there is not None:
        assert step in (Step.ALIKE, Step.LOOK, Step.NOTHING)


@pytest.mark.parametrize("there", [UNKNOWN, 1, 3])
def test_other_numbers_than_before_are_looked_into(there: int) -> None:
    known = KnownStudy(study_instance_uid="1", here=2, there=2, was_alike=True)
    options = SyncOptions(node="N")
    assert step_for(2, there, known, options) is Step.LOOK
    assert step_for(2, 2, known, options) is Step.ALIKE
    assert step_for(2, 2, None, options) is Step.LOOK


def test_digests_are_compared_where_both_tell_of_the_same_transfer_syntax() -> None:
    def of(syntax: str, *digests: str) -> ObjectDigest:
        return ObjectDigest(transfer_syntax_uid=syntax, digests=frozenset(digests))

    here = {
        "same": of("1", "a"), "other": of("1", "a"), "syntax": of("1", "a"), "silent": of("1", "a"),
        "compressed": of("1", "c", "a"), "only here": of("1", "a"),
    }  # fmt: skip
    there = {
        "same": of("1", "a"), "other": of("1", "b"), "syntax": of("2", "b"), "silent": None,
        "compressed": of("1", "a"), "only there": None,
    }  # fmt: skip
    found = difference(here, there)
    assert found.modified == ("other",)
    assert found.missing_here == ("only there",)
    assert found.missing_there == ("only here",)
    assert found
    assert not difference({"same": here["same"]}, {"same": there["same"]})
