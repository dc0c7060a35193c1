"""Identifiers on the requestor's side: made of keys as people write them.

How keys are written is in `isocenter.services.dicom.attribute_path`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from isocenter.engine.dataset import (
    Encoding,
    WritableElement,
    encoding_of,
    write_data_set,
)
from isocenter.engine.dataset.errors import tag_text
from isocenter.services.archive.index.attributes import Level
from isocenter.services.dicom.attribute_path import (
    KeyName,
    KeySyntaxError,
    parse_attribute_path,
    quoted,
)
from isocenter.services.dicom.data_dictionary import dictionary_vr
from isocenter.services.dicom.element_values import (
    CHARACTER_SET_VRS,
    NUMBER_VRS,
    choose_character_set,
    encode_numbers,
    encode_text,
)

SPECIFIC_CHARACTER_SET: Final = 0x00080005
QUERY_RETRIEVE_LEVEL: Final = 0x00080052


_Node = dict[int, "str | list[_Node]"]


def build_identifier(
    keys: Iterable[tuple[KeyName, str]],
    level: Level | str | None,
    transfer_syntax_uid: str,
    *,
    character_set: Sequence[str] = (),
) -> bytes:
    """An identifier with *keys*; an empty value asks for the attribute, whatever it is.

    Args:
        keys: tag, keyword or path, and value (several joined by a backslash).  The last
            one of a name counts.  A sequence alone is sent without items.
        level: for (0008,0052), unless *keys* say it; as text too: ``"STUDY"``.
        character_set: for what is not ASCII; UTF-8 where it is not enough or none is given.

    Raises:
        KeySyntaxError: a name that is none, a value that its VR cannot have, or a level that
            is none.
    """
    root: _Node = {}
    if level is not None:
        root[QUERY_RETRIEVE_LEVEL] = _level(level).value
    texts = []
    for name, value in keys:
        parents, tag = parse_attribute_path(name)
        node = root
        for sequence, number in parents:
            items = node.get(sequence)
            if not isinstance(items, list):
                items = node[sequence] = []
            items.extend({} for _ in range(number + 1 - len(items)))
            node = items[number]
        if dictionary_vr(tag) == "SQ":
            if value:
                raise KeySyntaxError(f"{quoted(name)}: a sequence has no value of its own")
            node.setdefault(tag, [])
        else:
            node[tag] = value
            if dictionary_vr(tag) in CHARACTER_SET_VRS:
                texts.append(value)
    explicit = root.get(SPECIFIC_CHARACTER_SET)
    preferred = tuple(explicit.split("\\")) if isinstance(explicit, str) and explicit else ()
    chosen = choose_character_set(texts, preferred or tuple(character_set))
    if chosen:
        root[SPECIFIC_CHARACTER_SET] = "\\".join(chosen)
    encoding = encoding_of(transfer_syntax_uid)
    return write_data_set(_elements(root, chosen, encoding), encoding)


def _level(level: Level | str) -> Level:
    try:
        return Level(level)
    except ValueError:
        known = ", ".join(each.value for each in Level)
        raise KeySyntaxError(f"{quoted(str(level))} is no level; it is one of {known}") from None


def _elements(node: _Node, chosen: tuple[str, ...], encoding: Encoding) -> list[WritableElement]:
    elements: list[WritableElement] = []
    for tag, value in sorted(node.items()):
        if isinstance(value, list):
            elements.append((tag, "SQ", [_elements(item, chosen, encoding) for item in value]))
            continue
        vr = dictionary_vr(tag)
        try:
            if not value:
                raw = b""
            elif vr in NUMBER_VRS:
                raw = encode_numbers(value, vr, big_endian=encoding.big_endian)
            else:
                raw = encode_text(value, vr, chosen)
        except ValueError as error:
            raise KeySyntaxError(f"{tag_text(tag)}: the value is none of VR {vr}") from error
        elements.append((tag, vr, raw))
    return elements
