"""Places of entities in the order of pages."""

from __future__ import annotations

from typing import Final

from isocenter.services.archive.index.attributes import Level

#: What the order is made of (`isocenter.services.archive.ports.Index.find_page`), and last a
#: number of the index's own, which no other entity has.
Place = tuple[str | int, ...]

_SHAPES: Final[dict[Level, tuple[type, ...]]] = {
    # Patient ID, issuer
    Level.PATIENT: (str, str, int),
    # date, time
    Level.STUDY: (str, str, int),
    # Study Instance UID, length of the number, number, Series Instance UID
    Level.SERIES: (str, int, str, str, int),
    # Study and Series Instance UID, number, SOP Instance UID
    Level.IMAGE: (str, str, int, str, int),
}


def checked_place(level: Level, values: tuple[object, ...]) -> Place:
    """*values*, which came from outside, as a place.

    Raises:
        ValueError: they are none.
    """
    shape = _SHAPES[level]
    if len(values) != len(shape):
        raise ValueError(f"a place of a {level.value} has {len(shape)} values")
    for value, kind in zip(values, shape, strict=True):
        if type(value) is not kind:
            raise ValueError(f"a place has no {type(value).__name__} there")
    return tuple(value for value in values if isinstance(value, str | int))
