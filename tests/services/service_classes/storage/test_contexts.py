"""Which presentation contexts are proposed for objects, and on which one goes out."""

from __future__ import annotations

from collections.abc import Sequence

from isocenter.engine.uid import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.service_classes.storage.contexts import contexts_for, plan_associations

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
JPEG_LS, RLE = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"


def targets(syntax: str) -> Sequence[str]:
    return [
        other
        for other in (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, JPEG_LS, RLE)
        if other != syntax and syntax in (JPEG_LS, RLE)
    ]


def test_what_can_be_transcoded_gets_two_more() -> None:
    assert contexts_for([(CT, JPEG_LS)]) == [(CT, (JPEG_LS,))]
    assert contexts_for([(CT, JPEG_LS)], targets) == [
        (CT, (JPEG_LS,)),
        (CT, (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)),
        (CT, (RLE,)),
    ]


def test_uncompressed_objects_may_have_to_be_compressed() -> None:
    def every(syntax: str) -> Sequence[str]:
        return [JPEG_LS, RLE, JPEG_BASELINE]

    assert contexts_for([(CT, EXPLICIT_VR_LITTLE_ENDIAN)], every) == [
        (CT, (EXPLICIT_VR_LITTLE_ENDIAN,)),
        (CT, (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)),
        (CT, (JPEG_LS, RLE)),
        (CT, (JPEG_BASELINE,)),
    ]


def test_none_is_proposed_twice() -> None:
    proposed = contexts_for([(CT, JPEG_LS), (CT, RLE), (CT, EXPLICIT_VR_LITTLE_ENDIAN)], targets)
    assert len(set(proposed)) == len(proposed)
    assert (CT, (JPEG_LS,)) in proposed
    assert (CT, (RLE,)) in proposed
    assert (CT, (EXPLICIT_VR_LITTLE_ENDIAN,)) in proposed


def test_associations_are_split_by_what_they_really_propose() -> None:
    kinds = [(f"1.2.{number}", JPEG_LS) for number in range(100)]
    assert len(plan_associations(kinds, lambda kind: kind)) == 1
    plans = plan_associations(kinds, lambda kind: kind, targets)
    assert len(plans) == 3
    assert all(len(contexts) <= 128 for contexts, _ in plans)
    assert [kind for _, group in plans for kind in group] == kinds


def test_a_syntax_that_is_wanted_stands_by_itself_before_all() -> None:
    kinds = [(CT, EXPLICIT_VR_LITTLE_ENDIAN), (CT, JPEG_LS)]
    found = contexts_for(kinds, first=JPEG_LS)
    assert found[0] == (CT, (JPEG_LS,))
    assert len(found) == len(set(found))
    plain = [(CT, EXPLICIT_VR_LITTLE_ENDIAN)]
    assert contexts_for(plain, first=EXPLICIT_VR_LITTLE_ENDIAN) == contexts_for(plain)
    assert contexts_for(plain, first=JPEG_LS)[1:] == contexts_for(plain)
