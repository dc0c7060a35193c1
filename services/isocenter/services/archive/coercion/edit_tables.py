"""Edits of attributes as tables: what settings and the database say of them."""

from __future__ import annotations

from collections.abc import Sequence

from isocenter.services.archive.coercion.edits import (
    Edit,
    MapValue,
    RemoveAttribute,
    SetValue,
    check_edit,
)
from isocenter.services.dicom.attribute_path import parse_attribute_path


def edits_of(tables: Sequence[object]) -> tuple[Edit, ...]:
    """What *tables* say, checked.

    Raises:
        ValueError: one of them is no edit; the message has its number.
    """
    edits = []
    for number, table in enumerate(tables, 1):
        try:
            edit = _edit_of(table)
            check_edit(edit)
        except ValueError as error:
            raise ValueError(f"{number}: {error}") from error
        edits.append(edit)
    return tuple(edits)


def _edit_of(table: object) -> Edit:
    match table:
        case {"set": str(name), "value": str(value), **rest} if not rest:
            return SetValue(_tag(name), value)
        case {"remove": str(name), **rest} if not rest:
            return RemoveAttribute(_tag(name))
        case {"map": str(name), "table": dict(mapping), **rest} if rest.keys() <= {"default"}:
            default = rest.get("default")
            is_text = all(isinstance(text, str) for text in mapping.values())
            if is_text and (default is None or isinstance(default, str)):
                return MapValue(_tag(name), mapping, default)
    raise ValueError(
        "must be { set = TAG, value = TEXT }, { remove = TAG }, or "
        "{ map = TAG, table = { OLD = NEW }, default = TEXT }"
    )


def _tag(name: str) -> int:
    sequences, tag = parse_attribute_path(name)
    if sequences:
        raise ValueError(f"{name!r}: items of sequences are not changed")
    return tag


def table_of_edit(edit: Edit) -> dict[str, object]:
    """What `edits_of` makes the same edit of; the first pair says what is done to which
    attribute."""
    tag = f"{edit.tag >> 16:04x},{edit.tag & 0xFFFF:04x}"
    if isinstance(edit, SetValue):
        return {"set": tag, "value": edit.value}
    if isinstance(edit, RemoveAttribute):
        return {"remove": tag}
    table: dict[str, object] = {"map": tag, "table": dict(edit.table)}
    return table if edit.default is None else table | {"default": edit.default}
