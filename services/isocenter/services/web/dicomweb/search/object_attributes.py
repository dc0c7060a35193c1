"""Attributes of stored objects as DICOM JSON: read, matched, and picked for answers.

For what the index does not have.  What matches is what
`isocenter.services.archive.index.matching` says of the texts of values.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from isocenter.engine.dataset import DataSetError, encoding_of
from isocenter.engine.dataset.walker import Tolerance
from isocenter.services.archive.index.matching import PADDING, matches_text
from isocenter.services.archive.index.query import compared_by
from isocenter.services.archive.metadata.fragment import unpack_fragment, with_url
from isocenter.services.archive.metadata.header import read_header
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.data_dictionary import dictionary_vr
from isocenter.services.dicom.json_writer import json_of
from isocenter.services.service_classes.query_retrieve.matching_keys import (
    IdentifierError,
    match_of_text,
)
from isocenter.services.web.dicomweb.search.keys import ObjectKey
from isocenter.services.web.dicomweb.search.object_paths import (
    ObjectPath,
    Step,
    creator_tag,
    is_private,
)
from isocenter.services.web.dicomweb.urls import instance_url

_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
#: Elements that may say who reserved a block.
_CREATORS: Final = range(0x10, 0x100)

#: A DICOM JSON object.
Item = Mapping[str, Any]


class ObjectAttributes:
    """Reads what of objects is needed for some paths.

    Args:
        base: the URL of the service, for bulk data.
    """

    def __init__(self, archive: ReadableArchive, paths: Iterable[ObjectPath], base: str) -> None:
        self._archive = archive
        self._base = base
        first = [path[0] for path in paths]
        self._tags = frozenset(step.tag for step in first) | frozenset(
            creator_tag(step.tag) for step in first if is_private(step.tag)
        )
        #: Of these all is needed: the block may be any.
        self._groups = frozenset(step.tag >> 16 for step in first if step.creator)

    def unpacked(self, stored: StoredInstance, fragment: bytes, dictionary: bytes) -> Item:
        """What was made of an object beforehand, all of it."""
        url = self._url(stored)
        found: Item = orjson.loads(with_url(unpack_fragment(fragment, dictionary), url))
        return found

    async def read(self, stored: StoredInstance) -> Item | None:
        """None: the object is not there any more, or cannot be read."""
        try:
            async with await stored_object(stored, self._archive.open).open() as reader:
                header = await read_header(
                    reader, stored.data_set_offset, encoding_of(stored.transfer_syntax_uid)
                )
            url = self._url(stored)
            found: Item = orjson.loads(
                json_of(
                    header.data,
                    header.encoding,
                    bulk=lambda value: f"{url}/bulkdata/{value.path_text}",
                    tolerance=Tolerance.SALVAGE,
                    wants=self._wants,
                )
            )
        except (KeyError, DataSetError):
            return None
        return found

    def _url(self, stored: StoredInstance) -> str:
        return instance_url(
            self._base,
            stored.study_instance_uid,
            stored.series_instance_uid,
            stored.sop_instance_uid,
        )

    def _wants(self, tag: int) -> bool:
        return tag in self._tags or tag >> 16 in self._groups


def satisfies(item: Item, keys: Iterable[ObjectKey]) -> bool:
    """Whether all that *keys* ask for holds; of what is asked of one sequence, in one item."""
    return _satisfies(item, [(key.path, key) for key in keys])


def _satisfies(item: Item, asked: Iterable[tuple[ObjectPath, ObjectKey]]) -> bool:
    by_step: dict[Step, list[tuple[ObjectPath, ObjectKey]]] = {}
    for path, key in asked:
        by_step.setdefault(path[0], []).append((path[1:], key))
    for step, below in by_step.items():
        element = item.get(_name_of(item, step), {})
        if not all(_matches(element, step.tag, key) for path, key in below if not path):
            return False
        deeper = [(path, key) for path, key in below if path]
        if deeper and not any(_satisfies(one, deeper) for one in _items(element)):
            return False
    return True


def _items(element: Mapping[str, Any]) -> list[Item]:
    values = element.get("Value", ()) if element.get("vr") == "SQ" else ()
    return [one for one in values if isinstance(one, dict)]


def _name_of(item: Item, step: Step) -> str:
    """Under which name *item* has the attribute, if it has it."""
    if step.creator:
        group = step.tag & 0xFFFF0000
        for element in _CREATORS:
            said = item.get(f"{group | element:08X}", {}).get("Value")
            if said and said[0] == step.creator:
                return f"{group | element << 8 | step.tag & 0xFF:08X}"
        return ""
    return f"{step.tag:08X}"


def _matches(element: Mapping[str, Any], tag: int, key: ObjectKey) -> bool:
    vr = element.get("vr") or dictionary_vr(tag)
    text = _text_of(element)
    if vr == "UN":
        vr = "LO"
    try:
        match = compared_by(vr, match_of_text(vr, tag, key.given), key.names)
    except IdentifierError:
        return False  # no value of what it is in this object
    return match is None or matches_text(vr, match, text)


def _text_of(element: Mapping[str, Any]) -> str:
    """The values as the matcher takes them."""
    if element.get("vr") == "UN":
        return _text_of_unknown(element.get("InlineBinary", ""))
    return "\\".join(map(_text_of_value, element.get("Value", ())))


def _text_of_value(value: object) -> str:
    if isinstance(value, dict):
        return "=".join(str(value.get(group, "")) for group in _GROUPS).rstrip("=")
    return "" if value is None else str(value)


def _text_of_unknown(encoded: str) -> str:
    """What a private value in implicit VR most often is."""
    try:
        return b64decode(encoded).decode("ascii").strip(PADDING)
    except (binascii.Error, UnicodeDecodeError):
        return ""


def pick(item: Item, paths: Sequence[ObjectPath]) -> dict[str, Any]:
    """What *item* has at *paths*, with all sequences around it; a private attribute with who
    reserved its block; what it has not, without a value."""
    found: dict[str, Any] = {}
    for path in sorted(paths, key=len):
        step = path[0]
        name = _name_of(item, step)
        if len(path) == 1:
            element = item.get(name)
            if element is not None:
                found[name] = element
            elif (vr := dictionary_vr(step.tag)) != "UN":
                found[name] = {"vr": vr}
        elif any(other == path[:1] for other in paths):
            continue  # all of the sequence is picked
        else:
            below = [other[1:] for other in paths if other[0] == step]
            items = [pick(one, below) for one in _items(item.get(name, {}))]
            found[name] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
        if is_private(step.tag) and name in found:
            creator = f"{creator_tag(int(name, 16)):08X}"
            if creator in item:
                found[creator] = item[creator]
    return found
