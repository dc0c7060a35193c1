"""Bytes that the MAC of a digital signature covers (PS3.3 C.12.1.1.3.1.1).

Always in explicit VR little endian, whatever the data set is in.  Sequences and encapsulated
values have no lengths, and so have their items, which have no delimitation either: so it does not
matter which way a data set says them.  Values are passed on from where they lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import EXPLICIT_LITTLE
from isocenter.engine.dataset.codec import HEADER_LENGTH, codec_of
from isocenter.engine.dataset.vr import (
    ITEM,
    LONG_VRS,
    MAX_SHORT_LENGTH,
    SEQUENCE_DELIMITATION,
    SHORT_VRS,
    SPACE_PADDED_VRS,
    SWAP_WIDTH,
)
from isocenter.engine.dataset.walker import FRAGMENTS, fragments_of
from isocenter.services.dicom.bulk_data import BulkValue, Parts, little_endian_pieces
from isocenter.services.dicom.data_set_nodes import ItemNode, Node
from isocenter.services.dicom.data_set_tree import TRAILING_PADDING, DataSetTree

MAC_PARAMETERS_SEQUENCE: Final = 0x4FFE0001
DIGITAL_SIGNATURES_SEQUENCE: Final = 0xFFFAFFFA
CERTIFICATE_OF_SIGNER: Final = 0x04000115
SIGNATURE: Final = 0x04000120
CERTIFIED_TIMESTAMP_TYPE: Final = 0x04000305
CERTIFIED_TIMESTAMP: Final = 0x04000310

_LENGTH_TO_END: Final = 0x00080001
_SIGNATURE_GROUP: Final = 0xFFFA
_FIRST_GROUP: Final = 0x0008
#: Of an item of the Digital Signatures Sequence, what its own MAC cannot cover.
_MADE_OF_THE_MAC: Final = frozenset(
    (CERTIFICATE_OF_SIGNER, SIGNATURE, CERTIFIED_TIMESTAMP_TYPE, CERTIFIED_TIMESTAMP)
)
_CODEC: Final = codec_of(EXPLICIT_LITTLE)
_MARK_LENGTH: Final = 4
_ITEM: Final = _CODEC.item_mark(ITEM, 0)[:_MARK_LENGTH]
_END: Final = _CODEC.item_mark(SEQUENCE_DELIMITATION, 0)[:_MARK_LENGTH]
#: Bytes that are passed on at once.
_PIECE: Final = 1 << 20


def is_signable(tag: int) -> bool:
    """Whether an element of *tag* may be signed, whatever its VR is."""
    group = tag >> 16
    return (
        group >= _FIRST_GROUP
        and group != _SIGNATURE_GROUP
        and tag & 0xFFFF != 0
        and tag not in (_LENGTH_TO_END, MAC_PARAMETERS_SEQUENCE, TRAILING_PADDING)
    )


def signable_tags(item: ItemNode) -> list[int]:
    """Tags of the elements of a data set or item that may be signed, in their order.

    Not among them: what is UN, also deep in a sequence, and so what is too long for its VR.
    """
    return list(
        dict.fromkeys(
            node.tag
            for node in item.elements
            if not node.is_erased and is_signable(node.tag) and not has_unknown(node)
        )
    )


def has_unknown(node: Node) -> bool:
    """Whether an element is UN, or one in its items is."""
    if node.vr == "UN":
        return True
    if node.items is None:
        length = len(node.value) if node.value is not None else node.end - node.value_start
        return node.vr not in LONG_VRS and length > MAX_SHORT_LENGTH
    return any(
        has_unknown(inner)
        for item in node.items
        if not item.is_erased
        for inner in item.elements
        if not inner.is_erased and is_signable(inner.tag)
    )


def has_signatures(tree: DataSetTree) -> bool:
    """Whether there is one, in the data set or in an item."""
    return any(item.all(DIGITAL_SIGNATURES_SEQUENCE) for item in tree.items())


def mac_pieces(tree: DataSetTree, item: ItemNode, tags: Iterable[int]) -> Iterator[Buffer]:
    """What the MAC over elements of a data set or item covers.

    Args:
        tags: Data Elements Signed (0400,0020); of those that are not there nothing comes.
    """
    there: dict[int, list[Node]] = {}
    for node in item.elements:
        if not node.is_erased:
            there.setdefault(node.tag, []).append(node)
    for tag in tags:
        if is_signable(tag):
            for node in there.get(tag, ()):
                yield from _element(tree, node)


def signature_pieces(tree: DataSetTree, signature: ItemNode) -> Iterator[Buffer]:
    """What it covers after that: the item of the Digital Signatures Sequence itself, without
    certificate, signature and time stamp."""
    for node in signature.elements:
        if not node.is_erased and node.tag not in _MADE_OF_THE_MAC and node.tag & 0xFFFF:
            yield from _element(tree, node)


def _element(tree: DataSetTree, node: Node) -> Iterator[Buffer]:
    if node.items is not None:
        yield _CODEC.header(node.tag, "SQ", 0)[:HEADER_LENGTH]
        for item in node.items:
            if item.is_erased:
                continue
            yield _ITEM
            for inner in item.elements:
                if not inner.is_erased and is_signable(inner.tag):
                    yield from _element(tree, inner)
        yield _END
        return
    if node.is_encapsulated:
        yield _header(node.tag, node.vr, 0)[:HEADER_LENGTH]
        end = node.end if node.is_cut else node.end - HEADER_LENGTH
        found = (FRAGMENTS, node.tag, node.vr, node.value_start, end, node.codec)
        for start, after in fragments_of(tree.data, found):
            yield _ITEM
            yield from _slices(tree.data, start, after)
        yield _END
        return
    length = tree.length(node)
    yield _header(node.tag, node.vr, length + (length & 1))
    yield from _value(tree, node)
    if length & 1:
        yield b" " if node.vr in SPACE_PADDED_VRS else b"\0"


def _header(tag: int, vr: str, length: int) -> bytes:
    if vr in SHORT_VRS and length > MAX_SHORT_LENGTH:
        vr = "UN"
    if vr in SHORT_VRS or vr in LONG_VRS:
        return _CODEC.header(tag, vr, length)
    # One of a later edition: it has a long header (PS3.5 7.1.2).
    long_header = _CODEC.header(tag, "UN", length)
    return long_header[:_MARK_LENGTH] + vr.encode("ascii") + long_header[6:]


def _value(tree: DataSetTree, node: Node) -> Iterator[Buffer]:
    data, start, end = tree.data, node.value_start, node.end
    if node.value is not None:
        data, start, end = memoryview(node.value), 0, len(node.value)
    if not node.codec.big_endian or node.vr not in SWAP_WIDTH:
        yield from _slices(data, start, end)
        return
    yield from little_endian_pieces(
        Parts(data), BulkValue((), node.tag, node.vr, start, end, node.codec, is_encapsulated=False)
    )


def _slices(data: memoryview, start: int, end: int) -> Iterator[Buffer]:
    for at in range(start, end, _PIECE):
        yield data[at : min(at + _PIECE, end)]
