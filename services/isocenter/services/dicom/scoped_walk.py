"""Walk through a data set that knows VRs, paths and character sets.

`isocenter.engine.dataset.walker.walk` says where elements lie; what they are depends on what
stands around them, and that is added here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from isocenter.engine.dataset.codec import HEADER_LENGTH, LONG_HEADER_LENGTH, Codec
from isocenter.engine.dataset.vr import ITEM as ITEM_TAG
from isocenter.engine.dataset.vr import UNDEFINED_LENGTH, Encoding
from isocenter.engine.dataset.walker import END, ITEM, SEQUENCE, Tolerance, walk
from isocenter.services.dicom.scope import KnownSequences, Scope

#: Values that others depend on are short; what is longer is not read for that.
_MOST_NOTED: Final = 1024

#: Tag and number of the item (from 0) of each sequence around an element.
ItemPath = tuple[tuple[int, int], ...]


class Placed(NamedTuple):
    """What a walk found, and where it stands.

    Attributes:
        kind: VALUE, FRAGMENTS, SEQUENCE, ITEM or END of the walker.
        tag: of the element; of an item (fffe,e000); of an END that of what has ended.
        vr: as the data set says, or as the dictionary; of items empty.
        start, end: of the value, in bytes of the data set; of a SEQUENCE or ITEM only the former
            counts; an END has where it goes on, twice.
        scope: of the data set or item in which it stands; of an item its own.
        path: of the items around it; of an item with itself.
    """

    kind: int
    tag: int
    vr: str
    start: int
    end: int
    codec: Codec
    scope: Scope
    path: ItemPath


def scoped_walk(
    data: memoryview,
    encoding: Encoding,
    *,
    forgiven: dict[str, int] | None = None,
    tolerance: Tolerance = Tolerance.SALVAGE,
) -> Iterator[Placed]:
    """What the data set *data* is made of, in its order; arguments and errors as of `walk`."""
    scope = Scope()
    path: ItemPath = ()
    sequences = KnownSequences(scope)
    around: list[tuple[int, Scope, ItemPath, int]] = []
    number = 0
    for kind, tag, vr, start, end, codec in walk(
        data, encoding, sequences=sequences, forgiven=forgiven, tolerance=tolerance
    ):
        if kind == SEQUENCE:
            around.append((tag, scope, path, number))
            number = 0
            yield Placed(kind, tag, "SQ" if vr is None else vr, start, end, codec, scope, path)
        elif kind == ITEM:
            sequence = around[-1][0] if around else 0
            around.append((ITEM_TAG, scope, path, number))
            scope = sequences.scope = scope.inner()
            path = (*path, (sequence, number))
            yield Placed(kind, ITEM_TAG, "", start, end, codec, scope, path)
        elif kind == END:
            ended, scope, path, number = around.pop()
            sequences.scope = scope
            if ended == ITEM_TAG:
                number += 1
            yield Placed(kind, ended, "", start, end, codec, scope, path)
        else:
            if vr is None:
                vr = scope.vr_of(tag) if tag & 0xFFFF else "UL"
                vr = "UN" if vr == "SQ" else vr
            if end - start <= _MOST_NOTED:
                scope.note(tag, bytes(data[start:end]))
            yield Placed(kind, tag, vr, start, end, codec, scope, path)


def has_undefined_length(data: memoryview, placed: Placed) -> bool:
    """Whether the header of a sequence, an item or fragments says no length."""
    (length,) = placed.codec.length.unpack_from(data, placed.start - placed.codec.length.size)
    return bool(length == UNDEFINED_LENGTH)


def header_start(data: memoryview, placed: Placed) -> int:
    """Where the header of an element begins."""
    codec, start = placed.codec, placed.start
    raw = codec.raw(placed.tag)
    is_short = codec.item_header.unpack_from(data, start - HEADER_LENGTH)[0] == raw
    if is_short and not codec.implicit_vr and start >= LONG_HEADER_LENGTH:
        # A tag that looks like a VR with its reserved bytes, before which it stands itself.
        first, key, _ = codec.explicit_header.unpack_from(data, start - LONG_HEADER_LENGTH)
        is_short = first != raw or key not in codec.long_vrs
    return start - (HEADER_LENGTH if is_short else LONG_HEADER_LENGTH)
