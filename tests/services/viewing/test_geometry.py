"""Shapes on images: what they enclose, how long they are, and what is none."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.viewing import geometry
from isocenter.services.viewing.geometry import GeometryError, check_points

SQUARE = [(10.0, 10.0), (20.0, 10.0), (20.0, 20.0), (10.0, 20.0)]


def test_lengths_areas_and_angles_follow_from_the_size_of_pixels() -> None:
    assert geometry.length_of([(0, 0), (3, 4)]) == 5
    assert geometry.length_of([(0, 0), (3, 0), (3, 4)], 0.5, 0.25) == 2.5
    assert geometry.area_of(SQUARE, 0.5, 0.25) == 12.5
    assert geometry.area_of(geometry.closed(SQUARE)) == 100
    assert geometry.ellipse_area([(0, 0), (4, 2)]) == pytest.approx(2 * math.pi)
    assert geometry.angle_of([(10, 0), (0, 0), (0, 10)]) == pytest.approx(90)
    # Pixels that are not square change an angle.
    assert geometry.angle_of([(10, 0), (0, 0), (10, 10)], 1, 2) == pytest.approx(63.43, abs=0.01)


def test_the_longer_axis_of_an_ellipse_comes_first() -> None:
    assert geometry.ends_of_axes([(0, 0), (2, 10)]) == ((1, 0), (1, 10), (0, 5), (2, 5))
    turned = [(0, 0), (2, 2), (4, -2), (-2, 4)]
    assert geometry.ends_of_axes(turned) == ((4, -2), (-2, 4), (0, 0), (2, 2))


@pytest.mark.parametrize(
    "points",
    [
        [(0, 0), (10, 0), (0, 10), (10, 10)],  # their middles are far from each other
        [(0, 0), (10, 0), (2, -5), (8, 5)],  # not at a right angle
        [(0, 0), (0, 10)],
    ],
)
def test_what_is_no_ellipse_is_refused(points: list[tuple[float, float]]) -> None:
    with pytest.raises(GeometryError, match="ax"):
        geometry.ends_of_axes(points)


def test_an_outline_that_crosses_itself_encloses_nothing() -> None:
    with pytest.raises(GeometryError, match="crosses itself"):
        geometry.area_of([(0, 0), (10, 10), (10, 0), (0, 10)])


@pytest.mark.parametrize(
    ("points", "rule", "said"),
    [
        ([(1, 1)], geometry.TWO_ENDS, "the two ends"),
        ([(1, 1)] * 3, geometry.TWO_ENDS, "the two ends"),
        ([(1, 1), (2, 2), (3, 3)], geometry.ELLIPSE, "needed"),
        ([(1, 1), (1, 1)], geometry.TWO_ENDS, "the same"),
        ([(1, math.nan), (2, 2)], geometry.TWO_ENDS, "two numbers"),
        ([(1, 1), (102, 2)], geometry.TWO_ENDS, "not on the image"),
        ([(1, -2), (10, 2)], geometry.TWO_ENDS, "not on the image"),
        ([(1, 1)] * 10_001, geometry.PATH, "10001 points"),
    ],
)
def test_points_that_make_no_shape_are_refused(
    points: list[tuple[float, float]], rule: geometry.PointRule, said: str
) -> None:
    with pytest.raises(GeometryError, match=said):
        check_points(points, rule, 100, 50)


def test_a_point_just_beside_the_image_is_on_its_edge() -> None:
    assert check_points([(-0.5, 3), (100.5, 50.9)], geometry.TWO_ENDS, 100, 50) == (
        (0, 3), (100, 50),
    )  # fmt: skip


def test_the_pixels_of_a_region_are_those_whose_centre_is_in_it() -> None:
    assert list(geometry.rows_within([(1, 1), (3, 1), (3, 3), (1, 3)], 9, 9)) == [
        (1, 1, 3), (2, 1, 3),
    ]  # fmt: skip
    assert list(geometry.rows_within([(0, 0), (0.4, 0), (0.4, 0.4)], 9, 9)) == []
    # What is beside the image does not count.
    assert list(geometry.rows_within([(-5, -5), (99, -5), (99, 99), (-5, 99)], 2, 2)) == [
        (0, 0, 2), (1, 0, 2),
    ]  # fmt: skip


@given(
    st.floats(5, 40), st.floats(5, 40), st.floats(1, 80), st.floats(1, 80)
)  # an ellipse within 100 by 100 pixels
def test_about_as_many_pixels_are_in_an_ellipse_as_it_is_large(
    half_width: float, half_height: float, left: float, top: float
) -> None:
    box = [(left, top), (left + 2 * half_width, top + 2 * half_height)]
    outline = geometry.outline_of_ellipse(box)
    count = sum(last - first for _, first, last in geometry.rows_within(outline, 200, 200))
    around = math.pi * (half_width + half_height)
    assert count == pytest.approx(geometry.ellipse_area(box), abs=around)
