"""Edits of a data set's JSON model: attributes and items by path."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.dicom.attribute_path import KeyName, parse_attribute_path, path_text
from isocenter.services.dicom.scope import Scope

#: Items of a sequence that a path may name.
MOST_ITEMS: Final = 1_000_000


class NoSuchValueError(IsocenterError, LookupError):
    """An attribute is not there, or has no such value; the message shows no value."""

    error_code = ErrorCode.ELEMENT_NOT_FOUND


def put_in_model(model: dict[str, Any], name: KeyName, *values: str | float | bytes) -> None:
    """Give an attribute of a JSON model its values; no value makes it empty.

    Items of sequences on the way there are made, where they are the next ones.

    Raises:
        KeySyntaxError: *name* is none.
        NoSuchValueError: an item on the way is missing, or a value makes no sense.
    """
    sequences, tag = parse_attribute_path(name, most_items=MOST_ITEMS)
    attribute = attribute_model(tag, values, "")
    if not sequences:
        model[f"{tag:08X}"] = attribute
        return
    top = model.setdefault(f"{sequences[0][0]:08X}", {"vr": "SQ"})
    parent_in_model(top, sequences, makes=True)[f"{tag:08X}"] = attribute


def parent_in_model(
    model: dict[str, Any], sequences: Sequence[tuple[int, int]], *, makes: bool = False
) -> dict[str, Any]:
    """The item that holds the last step of a path, below the model of its first sequence."""
    item: dict[str, Any] = {}
    for depth, (tag, number) in enumerate(sequences):
        sequence = model if not depth else item.get(f"{tag:08X}")
        if sequence is None and makes:
            sequence = item[f"{tag:08X}"] = {"vr": "SQ"}
        if sequence is None or sequence.get("vr") != "SQ":
            raise NoSuchValueError(f"{path_text(((), tag))} is no sequence")
        items = sequence.setdefault("Value", [])
        if number == len(items) and makes:
            items.append({})
        if number >= len(items):
            raise NoSuchValueError(
                f"{path_text(((), tag))} has {len(items)} items; the next one is [{len(items)}]"
            )
        item = items[number]
    return item


def attribute_model(tag: int, values: Sequence[str | float | bytes], vr: str) -> dict[str, Any]:
    """The JSON model of an attribute with these values; *vr* is empty where the tag says it.

    Raises:
        NoSuchValueError: bytes beside other values.
    """
    model: dict[str, Any] = {}
    known = vr or Scope().vr_of(tag)
    if known != "UN" or vr:
        model["vr"] = known
    if any(isinstance(value, bytes) for value in values):
        if len(values) > 1:
            raise NoSuchValueError(f"{path_text(((), tag))}: bytes are one value")
        (value,) = values
        assert isinstance(value, bytes)
        model.setdefault("vr", "UN")
        model["InlineBinary"] = b64encode(value).decode("ascii")
    elif values:
        model["Value"] = list(values)
    return model
