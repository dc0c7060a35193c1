"""Identifiers on the requestor's side: keys as people write them, answers as pydicom data sets.

A key is written as DCMTK's ``-k`` takes it: a path of tags or keywords, with the
number of the item in each sequence, and after ``=`` a value::

    0008,0052=STUDY    (0010,0010)=DOE*    PatientName=DOE*    StudyInstanceUID
    (0040,0100)[0].Modality=CT             0040,0275[0].0040,1001=RP1
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Final

import pydicom
from pydicom.datadict import (  # type: ignore[attr-defined]  # DicomDictionary is documented
    DicomDictionary,
    dictionary_VR,
    tag_for_keyword,
)
from pydicom.filereader import read_dataset

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import (
    DataSetError,
    Encoding,
    WritableElement,
    encoding_of,
    read_data_set,
    write_data_set,
)
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.inflate import Inflater
from isocenter.engine.dataset.vr import LONG_VRS, SHORT_VRS
from isocenter.engine.errors import IsocenterError
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.services.archive.index.attributes import Level
from isocenter.services.dicom.element_values import (
    CHARACTER_SET_VRS,
    NUMBER_VRS,
    choose_character_set,
    encode_numbers,
    encode_text,
)

SPECIFIC_CHARACTER_SET: Final = 0x00080005
QUERY_RETRIEVE_LEVEL: Final = 0x00080052
#: Items of one sequence in an identifier; the standard allows a single one (PS3.4 C.2.2.2.6).
MAX_ITEMS: Final = 100

#: Sequences of the data dictionary: what implicit VR does not say.
DICTIONARY_SEQUENCES: Final = frozenset(
    tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ"
)

#: Tags of sequences with the number of the item, and last the tag of the element.
KeyPath = tuple[tuple[tuple[int, int], ...], int]
#: What `build_identifier` takes for a key: a tag, or text (keyword, tag, path).
KeyName = int | str

_STEP: Final = re.compile(
    r"(?:\((?P<a>[0-9a-f]{4},\s?[0-9a-f]{4})\)|(?P<b>[0-9a-f]{4},[0-9a-f]{4})"
    r"|(?P<c>[0-9a-f]{8})|(?P<keyword>[a-z][a-z0-9]*))(?:\[(?P<item>[0-9]{1,4})\])?",
    re.IGNORECASE | re.ASCII,
)
_Node = dict[int, "str | list[_Node]"]


class KeySyntaxError(IsocenterError, ValueError):
    """A key that cannot be read or written; the message shows the key's name, not its value."""


#: The longest name that a message shows whole, in characters as it shows them.
_QUOTED: Final = 60


def quoted(name: KeyName) -> str:
    """*name* as a message shows it: printable, and cut where it is absurdly long."""
    text = repr(name[: _QUOTED + 1] if isinstance(name, str) else name)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"


@lru_cache(maxsize=4096)
def vr_of(tag: int) -> str:
    """The VR of the data dictionary, the first where it leaves a choice; UN when it has none."""
    if not tag & 0xFFFF:
        return "UL"  # group length (PS3.5 7.2)
    try:
        vr = dictionary_VR(tag).split(" or ")[0]
    except KeyError:
        return "UN"
    return vr if vr in SHORT_VRS or vr in LONG_VRS else "UN"


def parse_path(name: KeyName) -> KeyPath:
    """The path that a key's name means.

    Raises:
        KeySyntaxError: no tag, or a keyword that the data dictionary does not have.
    """
    if isinstance(name, int):
        return ((), name)
    steps = []
    position = 0
    while True:
        step = _STEP.match(name, position)
        if step is None:
            raise KeySyntaxError(
                f"{quoted(name)} is no key: expected a tag (gggg,eeee) or a keyword, after a "
                "sequence with [item] and a dot"
            )
        steps.append((_tag_of(step), step["item"]))
        position = step.end()
        if position == len(name):
            break
        if name[position] != ".":
            raise KeySyntaxError(f"{quoted(name)} is no key: a dot was expected at {position + 1}")
        position += 1
    *sequences, (last, last_item) = steps
    for tag, item in sequences:
        if vr_of(tag) not in ("SQ", "UN"):
            raise KeySyntaxError(f"{quoted(name)}: {tag_text(tag)} is no sequence")
        if int(item or 0) >= MAX_ITEMS:
            raise KeySyntaxError(f"{quoted(name)}: at most {MAX_ITEMS} items in a sequence")
    if last_item is not None:
        raise KeySyntaxError(
            f"{quoted(name)}: an item of a sequence needs a key in it, after a dot"
        )
    return tuple((tag, int(item or 0)) for tag, item in sequences), last


def _tag_of(step: re.Match[str]) -> int:
    digits = step["a"] or step["b"] or step["c"]
    if digits is not None:
        return int(re.sub(r"[,\s]", "", digits), 16)
    tag = tag_for_keyword(step["keyword"])
    if tag is None:
        raise KeySyntaxError(
            f"{quoted(step['keyword'])} is no keyword of the data dictionary (PS3.6)"
        )
    return int(tag)


def parse_key(text: str) -> tuple[str, str]:
    """*text* of the form ``name=value`` or ``name``, checked, as name and value.

    Raises:
        KeySyntaxError: as `parse_path`.
    """
    name, _, value = text.partition("=")
    name = name.strip()
    parse_path(name)
    return name, value


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
        parents, tag = parse_path(name)
        node = root
        for sequence, number in parents:
            items = node.get(sequence)
            if not isinstance(items, list):
                items = node[sequence] = []
            items.extend({} for _ in range(number + 1 - len(items)))
            node = items[number]
        if vr_of(tag) == "SQ":
            if value:
                raise KeySyntaxError(f"{quoted(name)}: a sequence has no value of its own")
            node.setdefault(tag, [])
        else:
            node[tag] = value
            if vr_of(tag) in CHARACTER_SET_VRS:
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
        vr = vr_of(tag)
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


def read_identifier(
    identifier: Buffer, transfer_syntax_uid: str, limits: Limits = DEFAULT_LIMITS
) -> pydicom.Dataset:
    """An identifier, or another small data set, as a pydicom data set.

    Raises:
        DataSetError: truncated, malformed, or over a limit.
    """
    encoding = encoding_of(transfer_syntax_uid)
    # Bounds size and nesting before pydicom, which has no bounds, sees it.
    read_data_set(identifier, encoding, limits, DICTIONARY_SEQUENCES)
    data = bytes(identifier)
    if encoding.deflated:
        data = b"".join(Inflater(limits).feed(data))
    try:
        return read_dataset(
            BytesIO(data), encoding.implicit_vr, not encoding.big_endian, bytelength=len(data)
        )
    except Exception as error:
        # pydicom raises whatever its parts do; to the caller it is one fault.
        raise DataSetError(f"pydicom cannot read it ({type(error).__name__})", 0) from error
