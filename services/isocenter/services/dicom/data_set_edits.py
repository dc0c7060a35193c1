"""Edits of a data set: attributes inserted, modified and erased by path."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.vr import LONG_VRS, SHORT_VRS, SWAP_WIDTH
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.attribute_path import KeySyntaxError
from isocenter.services.dicom.data_set_nodes import ItemNode, Node
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.element_values import (
    NUMBER_VRS,
    CharacterSetError,
    encode_numbers,
    encode_text,
)
from isocenter.services.dicom.scope import Scope, is_private, is_private_creator
from isocenter.services.dicom.tag_pattern import TagPattern, parse_tag_pattern
from isocenter.services.dicom.uids import new_uid

STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E
SOP_INSTANCE_UID: Final = 0x00080018
_META_GROUP: Final = 0x0002
_VRS: Final = SHORT_VRS | LONG_VRS
#: "OB" and the like: digits of so many bytes each, or numbers of another VR.
_WORDS: Final = {"OB": 1, "UN": 1, "OW": 2}
_OTHER_NUMBERS: Final = {"OD": "FD", "OF": "FL", "OL": "UL", "OV": "UV"}
_SAID_VR: Final = re.compile(r":([A-Z]{2})$")
_UID: Final = re.compile(r"[0-9.]{0,64}")
_TAG_VALUE: Final = re.compile(r"\(?([0-9a-fA-F]{4}),?([0-9a-fA-F]{4})\)?")
#: A value from a file is held.
MAX_FILE_VALUE: Final = 1 << 30


class EditError(IsocenterError, ValueError):
    """An edit that cannot be done; the message names the attribute, and no value."""

    error_code = ErrorCode.ELEMENT_CONVERSION


class NothingFoundError(EditError):
    """What an edit is about is not in the data set."""

    error_code = ErrorCode.ELEMENT_NOT_FOUND


class Kind(Enum):
    """What an edit does."""

    INSERT = "insert"
    MODIFY = "modify"
    MODIFY_ALL = "modify all"
    ERASE = "erase"
    ERASE_ALL = "erase all"
    ERASE_PRIVATE = "erase private elements"
    NEW_UID = "new UID"


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit.

    Attributes:
        pattern: what it is about; None: all private elements.
        value: text, or a file with the bytes of the value.
        vr: what VR it has where nobody else knows.
    """

    kind: Kind
    pattern: TagPattern | None = None
    value: str | Path = ""
    vr: str = ""

    @property
    def text(self) -> str:
        """For people: what is done, and to what."""
        return self.kind.value if self.pattern is None else f"{self.kind.value} {self.pattern.text}"


def parse_edit(kind: Kind, text: str, *, is_file: bool = False) -> Edit:
    """The edit that *text* means: a path, and for those with a value ``=`` and the value.

    Raises:
        KeySyntaxError: it means none.
    """
    name, sign, value = text.partition("=")
    if kind in (Kind.ERASE, Kind.ERASE_ALL) and sign:
        raise KeySyntaxError(f"{kind.value} takes a path without a value")
    said = _SAID_VR.search(name)
    vr = ""
    if said is not None:
        vr, name = said[1], name[: said.start()]
        if vr not in _VRS:
            raise KeySyntaxError(f"{vr} is no VR (PS3.5 6.2)")
    pattern = parse_tag_pattern(name.strip())
    is_all = kind in (Kind.MODIFY_ALL, Kind.ERASE_ALL)
    if is_all and (pattern.steps or pattern.item is not None):
        raise KeySyntaxError(f"{kind.value} takes a tag or keyword, wherever it is, and no path")
    is_item = pattern.item is not None and kind is not Kind.ERASE
    if is_item and (value or kind is not Kind.INSERT):
        raise KeySyntaxError(f"{pattern.text} is an item; name an attribute in it, after a dot")
    if pattern.tag & 0xFFFF == 0 and kind is not Kind.ERASE and kind is not Kind.ERASE_ALL:
        raise KeySyntaxError(f"{tag_text(pattern.tag)} is a group length: it follows by itself")
    if pattern.tag >> 16 == _META_GROUP:
        raise KeySyntaxError(
            f"{tag_text(pattern.tag)} is File Meta Information: it follows the data set; "
            "dcmconv changes the transfer syntax"
        )
    return Edit(kind, pattern, Path(value) if is_file else value, vr)


class Editor:
    """Does edits to data sets.

    Args:
        ignore_missing: what is not there need not be modified or erased.
        check_creators: private elements are inserted only into blocks that have a creator.
    """

    def __init__(self, *, ignore_missing: bool = False, check_creators: bool = True) -> None:
        self._ignore_missing = ignore_missing
        self._check_creators = check_creators
        #: UID before → after: files of one study stay in one.
        self._uids: dict[tuple[int, str], str] = {}

    def apply(self, tree: DataSetTree, edit: Edit) -> int:
        """Do *edit*; how many attributes changed.

        Raises:
            NothingFoundError: there is nothing of the kind.
            EditError: it cannot be done.
        """
        match edit.kind:
            case Kind.INSERT:
                return self._insert(tree, edit)
            case Kind.MODIFY:
                found = list(_matching(tree, edit))
            case Kind.MODIFY_ALL:
                found = [(item, node) for item, node in _everywhere(tree, edit)]
            case Kind.NEW_UID:
                return self._new_uid(tree, edit)
            case _:
                return self._erase(tree, edit)
        for item, node in found:
            self._give(tree, item, node, edit)
        return self._counted(len(found), edit)

    def _counted(self, count: int, edit: Edit) -> int:
        if not count and not self._ignore_missing:
            assert edit.pattern is not None
            raise NothingFoundError(f"{edit.pattern.text} is not there")
        return count

    # -- Erasing -------------------------------------------------------------------------

    def _erase(self, tree: DataSetTree, edit: Edit) -> int:
        if edit.kind is Kind.ERASE_PRIVATE:
            found = [
                (item, node)
                for item in tree.items()
                for node in item.elements
                if is_private(node.tag) and not node.is_erased
            ]
            for item, node in found:
                item.erase(node)
            return len(found)
        pattern = edit.pattern
        assert pattern is not None
        if pattern.item is not None:
            return self._counted(_erase_items(tree, pattern), edit)
        places = _everywhere if edit.kind is Kind.ERASE_ALL else _matching
        found = list(places(tree, edit))
        for item, node in found:
            item.erase(node)
        return self._counted(len(found), edit)

    # -- Values --------------------------------------------------------------------------

    def _insert(self, tree: DataSetTree, edit: Edit) -> int:
        pattern = edit.pattern
        assert pattern is not None
        steps = pattern.steps
        if pattern.item is not None:
            steps = (*steps, (pattern.tag, None if pattern.item < 0 else pattern.item))
        items = [tree.root]
        for tag, number in steps:
            items = [each for item in items for each in _entered(item, tag, number)]
        if pattern.item is not None:
            return len(items)
        for item in items:
            self._check_creator(item, pattern.tag)
            nodes = item.all(pattern.tag)
            if nodes:
                self._give(tree, item, nodes[-1], edit)
                continue
            vr = _known_vr(tree, item, pattern.tag, edit.vr)
            node = Node(pattern.tag, vr, item.codec)
            if vr == "SQ":
                if edit.value:
                    raise EditError(
                        f"{pattern.text} is a sequence; insert into its items, [0] first"
                    )
                node.items = []
            else:
                node.value = self._encoded(tree, item, node, vr, edit)
            item.insert(node)
        return self._counted(len(items), edit)

    def _check_creator(self, item: ItemNode, tag: int) -> None:
        if not self._check_creators or not is_private(tag) or is_private_creator(tag):
            return
        creator = tag >> 16 << 16 | (tag >> 8) & 0xFF
        if not item.all(creator):
            raise EditError(
                f"{tag_text(tag)} is in a private block without a creator; insert "
                f"{tag_text(creator)} first, or take --no-reserv-check"
            )

    def _give(self, tree: DataSetTree, item: ItemNode, node: Node, edit: Edit) -> None:
        if node.items is not None or node.vr == "SQ":
            raise EditError(f"{tag_text(node.tag)} is a sequence; change what is in its items")
        if node.is_encapsulated:
            raise EditError(
                f"{tag_text(node.tag)} is compressed; convert the file with dcmconv first"
            )
        vr = edit.vr or node.vr
        if vr == "UN" or vr not in _VRS:
            vr = _known_vr(tree, item, node.tag, "")
        tree.set_value(item, node, vr, self._encoded(tree, item, node, vr, edit))

    def _encoded(self, tree: DataSetTree, item: ItemNode, node: Node, vr: str, edit: Edit) -> bytes:
        big_endian = node.codec.big_endian
        if isinstance(edit.value, Path):
            raw = _read(edit.value)
            return _swapped(raw, SWAP_WIDTH.get(vr, 1)) if big_endian else raw
        try:
            return encode_value(edit.value, vr, tree.character_set(item), big_endian=big_endian)
        except CharacterSetError as error:
            raise EditError(
                f"{tag_text(node.tag)}: {error}; convert the file with dcmconv --to-utf8 first"
            ) from None
        except ValueError as error:
            raise EditError(f"{tag_text(node.tag)}: {error}") from None

    def _new_uid(self, tree: DataSetTree, edit: Edit) -> int:
        assert edit.pattern is not None
        tag = edit.pattern.tag
        nodes = tree.root.all(tag)
        before = tree.value(nodes[-1]).decode("ascii", "replace").strip("\0 ") if nodes else ""
        key = (tag, before)
        # Each instance is another one, also where two files say the same.
        if tag == SOP_INSTANCE_UID or not before or key not in self._uids:
            self._uids[key] = new_uid()
        edit = Edit(Kind.INSERT, edit.pattern, self._uids[key])
        return self._insert(tree, edit)


def encode_value(text: str, vr: str, character_set: tuple[str, ...], *, big_endian: bool) -> bytes:
    """The bytes of a value that a person typed, unpadded.

    Numbers are decimal; bytes and words (OB, OW, UN) hexadecimal with backslashes between them;
    AT ``(gggg,eeee)``.

    Raises:
        CharacterSetError: a character that the character set has not.
        ValueError: it is no value of this VR; the message shows none.
    """
    if not text:
        return b""
    number_vr = _OTHER_NUMBERS.get(vr, vr)
    try:
        if number_vr in NUMBER_VRS:
            return encode_numbers(text, number_vr, big_endian=big_endian)
        if vr in _WORDS:
            width = _WORDS[vr]
            order: Literal["big", "little"] = "big" if big_endian else "little"
            words = [int(word, 16) for word in text.split("\\")]
            return b"".join(word.to_bytes(width, order) for word in words)
        if vr == "AT":
            return _tags(text, big_endian=big_endian)
    except (ValueError, OverflowError):
        raise ValueError(f"the value is none of VR {vr}; {_HOW.get(vr, _NUMBERS)}") from None
    if vr == "UI" and not all(map(_UID.fullmatch, text.split("\\"))):
        raise ValueError("the value is no UID: digits and dots, 64 at most")
    return encode_text(text, vr, character_set)


_NUMBERS: Final = "write decimal numbers, with backslashes between them"
_HOW: Final = {
    "OB": "write hexadecimal bytes, as 00\\ff",
    "UN": "write hexadecimal bytes, as 00\\ff, or say the VR, as TAG:LO=text",
    "OW": "write hexadecimal words, as 0000\\ffff",
    "AT": "write tags, as (0028,0010)",
}


def _tags(text: str, *, big_endian: bool) -> bytes:
    order: Literal["big", "little"] = "big" if big_endian else "little"
    packed = b""
    for value in text.split("\\"):
        found = _TAG_VALUE.fullmatch(value.strip())
        if found is None:
            raise ValueError
        for half in found.groups():
            packed += int(half, 16).to_bytes(2, order)
    return packed


def _known_vr(tree: DataSetTree, item: ItemNode, tag: int, said: str) -> str:
    if said:
        return said
    scope: Scope = tree.scope(item)
    return scope.vr_of(tag)


@lru_cache(maxsize=4)
def _read(path: Path) -> bytes:
    """The bytes of a value, which several files may get."""
    with path.open("rb") as file:
        raw = file.read(MAX_FILE_VALUE + 1)
    if len(raw) > MAX_FILE_VALUE:
        raise EditError(f"{path} is longer than {MAX_FILE_VALUE >> 30} GiB")
    return raw


def _swapped(raw: bytes, width: int) -> bytes:
    if width == 1:
        return raw
    whole = len(raw) - len(raw) % width
    swapped = bytearray(raw)
    for offset in range(width):
        swapped[offset:whole:width] = raw[width - 1 - offset : whole : width]
    return bytes(swapped)


# -- Places ------------------------------------------------------------------------------


def _entered(item: ItemNode, tag: int, number: int | None) -> Iterator[ItemNode]:
    """The items of a sequence that a step means; the next one is made where it is not there."""
    nodes = item.all(tag)
    node = nodes[-1] if nodes else None
    if node is None:
        if number is None:
            return
        node = Node(tag, "SQ", item.codec, items=[])
        item.insert(node)
    if node.items is None:
        raise EditError(f"{tag_text(tag)} is no sequence")
    there = [each for each in node.items if not each.is_erased]
    if number is None:
        yield from there
    elif number < len(there):
        yield there[number]
    elif number == len(there):
        new = ItemNode(node.inner_codec, item, node)
        node.items.append(new)
        new.touch()
        # What is in it may come later, or never.
        item.touch()
        yield new
    else:
        raise EditError(
            f"{tag_text(tag)} has {len(there)} items, so the next one is [{len(there)}]"
        )


def _led_to(tree: DataSetTree, pattern: TagPattern) -> list[ItemNode]:
    items = [tree.root]
    for tag, number in pattern.steps:
        inner: list[ItemNode] = []
        for item in items:
            for node in item.all(tag):
                there = [each for each in node.items or () if not each.is_erased]
                inner += there if number is None else there[number : number + 1]
        items = inner
    return items


def _matching(tree: DataSetTree, edit: Edit) -> Iterator[tuple[ItemNode, Node]]:
    assert edit.pattern is not None
    for item in _led_to(tree, edit.pattern):
        for node in item.all(edit.pattern.tag):
            yield item, node


def _everywhere(tree: DataSetTree, edit: Edit) -> Iterator[tuple[ItemNode, Node]]:
    assert edit.pattern is not None
    for item in list(tree.items()):
        for node in item.all(edit.pattern.tag):
            yield item, node


def _erase_items(tree: DataSetTree, pattern: TagPattern) -> int:
    count = 0
    for item in _led_to(tree, pattern):
        for node in item.all(pattern.tag):
            there = [each for each in node.items or () if not each.is_erased]
            wanted = there if pattern.item == -1 else there[pattern.item or 0 :][:1]
            for each in wanted:
                each.touch()
                each.is_erased = True
                count += 1
    return count
