"""Order of the images of a series."""

from __future__ import annotations

import random

from isocenter.services.viewing.attribute_view import AttributeView
from isocenter.services.viewing.document_parts import attributes
from isocenter.services.viewing.slice_order import Slice, SortKey, in_order, slice_of

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
#: Rows along x, columns downwards: seen from the front, the normal points to the back.
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
#: Between the two.
OBLIQUE = (1.0, 0.0, 0.0, 0.0, 0.6, -0.8)


def axial(uid: str, z: float, number: int | None = None) -> Slice:
    return Slice(sop_instance_uid=uid, position=(1, 2, z), orientation=AXIAL,
                 instance_number=number)  # fmt: skip


def names(slices: list[Slice], key: SortKey = SortKey.POSITION, *, down: bool = False) -> str:
    return "".join(one.slice.sop_instance_uid for one in in_order(slices, key, is_descending=down))


def test_images_lie_along_the_normal_of_their_planes() -> None:
    slices = [axial("a", 5.0, 1), axial("b", -5.0, 2), axial("c", 0.0, 3)]
    assert names(slices) == "bca"
    assert names(slices, down=True) == "acb"
    assert [one.place for one in in_order(slices, SortKey.POSITION)] == [-5, 0, 5]


def test_the_normal_may_point_anywhere() -> None:
    for orientation, direction in ((CORONAL, (0, 1, 0)), (OBLIQUE, (0, 0.8, 0.6))):
        slices = [
            Slice(
                sop_instance_uid=uid,
                # The origin wanders within the plane, which must not count.
                position=tuple(step * one + shift for one, shift in zip(
                    direction, (at * 7.0, 0.0, 0.0), strict=True)),
                orientation=orientation,
            )
            for at, (uid, step) in enumerate((("a", 3), ("b", 1), ("c", 2)))
        ]  # fmt: skip
        assert names(slices) == "bca"


def test_a_localizer_stands_behind_the_planes_that_are_parallel() -> None:
    localizer = Slice(
        sop_instance_uid="L", position=(0, 0, -99), orientation=CORONAL, instance_number=1
    )
    slices = [localizer, axial("b", 5.0, 3), axial("a", 4.0, 2)]
    assert names(slices) == "abL"
    assert names(slices, down=True) == "baL"


def test_what_has_no_place_stands_by_number_then_by_name() -> None:
    slices = [
        Slice(sop_instance_uid="d"),
        Slice(sop_instance_uid="c"),
        Slice(sop_instance_uid="b", instance_number=10),
        Slice(sop_instance_uid="a", instance_number=9),
    ]
    assert names(slices) == "abcd"
    assert names(slices, SortKey.INSTANCE_NUMBER) == "abcd"
    assert names(slices, SortKey.INSTANCE_NUMBER, down=True) == "bacd"


def test_images_at_one_place_stand_by_number() -> None:
    slices = [axial("b", 1.0, 2), axial("a", 1.0, 1), axial("c", 0.0, 9)]
    assert names(slices) == "cab"


def test_images_stand_by_the_time_of_their_acquisition() -> None:
    slices = [
        Slice(sop_instance_uid="a", acquired="20260101100000.5"),
        Slice(sop_instance_uid="b", acquired="20260101100000"),
        Slice(sop_instance_uid="c"),
    ]
    assert names(slices, SortKey.ACQUISITION_TIME) == "bac"
    assert names(slices, SortKey.ACQUISITION_TIME, down=True) == "abc"


def test_the_order_does_not_depend_on_the_order_of_arrival() -> None:
    slices = [axial(chr(97 + n), float(n // 2), n) for n in range(12)]
    slices += [Slice(sop_instance_uid="z"), Slice(sop_instance_uid="y", instance_number=1)]
    wanted = names(slices)
    for seed in range(20):
        random.Random(seed).shuffle(slices)
        assert names(slices) == wanted


def test_planes_that_turn_about_an_axis_have_no_line() -> None:
    import math

    slices = [
        Slice(
            sop_instance_uid=f"{n:04}", position=(0, 0, 0), instance_number=n,
            orientation=(math.cos(n / 50), math.sin(n / 50), 0, 0, 0, 1),
        )
        for n in range(150)
    ]  # fmt: skip
    assert len(in_order(slices, SortKey.POSITION)) == 150


def test_a_data_set_says_where_its_first_frame_lies() -> None:
    plane = attributes(
        PlanePositionSequence=[attributes(ImagePositionPatient=["1", "2", "3"])],
        PlaneOrientationSequence=[attributes(ImageOrientationPatient=[str(v) for v in AXIAL])],
    )
    image = AttributeView(
        attributes(
            InstanceNumber="7", AcquisitionDate="20260101", AcquisitionTime="1200",
            PerFrameFunctionalGroupsSequence=[plane],
        )
    )  # fmt: skip
    found = slice_of("1.2", image)
    assert (found.position, found.orientation) == ((1, 2, 3), AXIAL)
    assert (found.instance_number, found.acquired) == (7, "202601011200")
    assert slice_of("1.2", AttributeView({})) == Slice(sop_instance_uid="1.2")
