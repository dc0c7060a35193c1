"""Order of the images of a series: by place, by number, by time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.viewing.attribute_view import AttributeView

#: Normals that differ by less are the same: scanners round (PS3.3 C.7.6.2.1.1).
_PARALLEL: Final = 0.99
#: Of planes that turn about an axis each has its own; then there is no line to sort them along.
_MOST_DIRECTIONS: Final = 20


class SortKey(Enum):
    """By what images are sorted."""

    POSITION = "position"
    INSTANCE_NUMBER = "instance_number"
    ACQUISITION_TIME = "acquisition_time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """An image as far as its order depends on it.

    Attributes:
        instance_number: None: it has none.
        slice_location: as the image says; None: it does not.
        position: of its first pixel, in millimetres; empty: it has none.
        orientation: of its rows and columns, six numbers; empty: none.
        acquired: date and time of acquisition, as text that sorts.
    """

    sop_instance_uid: str
    instance_number: int | None = None
    slice_location: float | None = None
    position: tuple[float, ...] = ()
    orientation: tuple[float, ...] = ()
    acquired: str = ""


def slice_of(uid: str, image: AttributeView) -> Slice:
    """What a data set says; of an image of many frames, its first."""
    number = image.number("InstanceNumber")
    plane = image.group("PlanePositionSequence", 1).numbers("ImagePositionPatient")
    direction = image.group("PlaneOrientationSequence", 1).numbers("ImageOrientationPatient")
    moment = image.text("AcquisitionDateTime") or (
        image.text("AcquisitionDate") + image.text("AcquisitionTime")
        if image.text("AcquisitionTime")
        else image.text("ContentDate") + image.text("ContentTime")
    )
    return Slice(
        sop_instance_uid=uid,
        instance_number=None if number is None else int(number),
        slice_location=image.number("SliceLocation"),
        position=tuple(plane) if len(plane) == 3 and all(map(math.isfinite, plane)) else (),
        orientation=tuple(direction) if len(direction) == 6 else (),
        acquired=moment,
    )


@dataclass(frozen=True, slots=True)
class Placed:
    """An image in its order, and where it lies on the line that it was sorted by; None: that is
    not known."""

    slice: Slice
    place: float | None


def in_order(slices: Sequence[Slice], key: SortKey, *, is_descending: bool = False) -> list[Placed]:
    """The images in order.

    By position they lie along the normal of their planes; where planes are not parallel (a
    localizer among them) or an image has no place, those come behind the others, by number.  What
    cannot be told apart stands by number, then by UID.
    """
    places = _places(slices) if key is SortKey.POSITION else {}
    placed = [Placed(one, places.get(one.sop_instance_uid)) for one in slices]

    def rank(one: Placed) -> tuple[bool, float, str, bool, int, str]:
        number = one.slice.instance_number
        by_number = (number is None, number or 0, one.slice.sop_instance_uid)
        match key:
            case SortKey.POSITION:
                return (one.place is None, one.place or 0.0, "", *by_number)
            case SortKey.ACQUISITION_TIME:
                return (not one.slice.acquired, 0.0, one.slice.acquired, *by_number)
            case SortKey.INSTANCE_NUMBER:
                return (False, 0.0, "", *by_number)

    placed.sort(key=rank)
    if not is_descending:
        return placed
    # What has no place stays behind, whichever way the others go.
    last = [one for one in placed if _is_last(one, key, has_places=bool(places))]
    names = {one.slice.sop_instance_uid for one in last}
    return [*(one for one in reversed(placed) if one.slice.sop_instance_uid not in names), *last]


def _is_last(one: Placed, key: SortKey, *, has_places: bool) -> bool:
    if has_places:
        return one.place is None
    if key is SortKey.ACQUISITION_TIME:
        return not one.slice.acquired
    return one.slice.instance_number is None


def _places(slices: Sequence[Slice]) -> dict[str, float]:
    """Millimetres along the normal that most images share; of those only."""
    normals = {
        one.sop_instance_uid: normal
        for one in slices
        if one.position and (normal := _normal(one.orientation)) is not None
    }
    groups: list[tuple[tuple[float, ...], list[Slice]]] = []
    for one in slices:
        normal = normals.get(one.sop_instance_uid)
        if normal is None:
            continue
        for shared, members in groups[:_MOST_DIRECTIONS]:
            if abs(_dot(shared, normal)) >= _PARALLEL:
                members.append(one)
                break
        else:
            groups.append((normal, [one]))
    if not groups:
        return {}
    shared, members = max(groups, key=lambda group: len(group[1]))
    return {one.sop_instance_uid: round(_dot(shared, one.position), 6) for one in members}


def _normal(orientation: Sequence[float]) -> tuple[float, ...] | None:
    """Of length 1, at a right angle to rows and columns."""
    if len(orientation) != 6:
        return None
    a, b = orientation[:3], orientation[3:]
    cross = (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )
    length = math.sqrt(_dot(cross, cross))
    return tuple(one / length for one in cross) if length > 1e-6 else None


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))
