"""Traversal of a data set that JSON and XML writers share.

Elements are read where they lie and written as they come, so that neither the data set nor the
text is ever held whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset.codec import Codec
from isocenter.engine.dataset.vr import EXPLICIT_LITTLE, Encoding
from isocenter.engine.dataset.walker import (
    END,
    ITEM,
    OUT_OF_ORDER,
    SEQUENCE,
    VALUE,
    Found,
    Tolerance,
    walk,
)
from isocenter.engine.dataset.writer import WritableElement, write_data_set
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.services.dicom.bulk_data import (
    BINARY_VRS,
    INLINE_UP_TO,
    PIXEL_TAGS,
    BulkValue,
    Bytes,
    Parts,
    PlaceBulk,
    Placement,
    base64_pieces,
    inline,
)
from isocenter.services.dicom.scope import (
    PIXEL_REPRESENTATION,
    SETTLED_VRS,
    SPECIFIC_CHARACTER_SET,
    KnownSequences,
    Scope,
)

#: Characters of text that are handed on together, about; and parts of it.
_TOGETHER: Final = 1 << 18
_MOST_PARTS: Final = 4096
#: Values of fewer bytes are counted as parts only.
_LONG: Final = 256
#: Data set trailing padding: it has no significance (PS3.10 7.2).
_TRAILING_PADDING: Final = 0xFFFCFFFC
#: A tag without what is not the same for all private creators: the odd group, no block.
_BLOCK_MASK: Final = 0x1FF00
_OF_CREATORS: Final = 0x10000
#: What others depend on, beside private creators.
_NOTED: Final = frozenset((SPECIFIC_CHARACTER_SET, PIXEL_REPRESENTATION))
_META_GROUP: Final = 0x0002
STRAY_META: Final = "elements of group 0002 in the data set, left out (PS3.5 7.1)"
UNFIT_LENGTH: Final = "a value whose length does not fit its VR (PS3.5 6.2)"
UNKNOWN_TEXT: Final = "text that its character set does not have (PS3.5 6.1)"


#: The text of an element: tag, VR, raw value, scope, whether it is in big endian.
Render = Callable[[int, str, bytes, Scope, bool], str]


class _OutOfOrder(Exception):
    """Elements do not ascend; nothing was handed on yet."""


class ModelWriter(ABC):
    """Writes one data set as a text.

    Group lengths and trailing padding are left out.  Elements are written in ascending order;
    of a tag that comes twice the last counts.

    Args:
        write: takes the text, in pieces.
        bulk: decides what becomes of bulk data: of pixel data, and of binary values longer
            than *inline_up_to* bytes.
        wants: whether the data set's element of this tag is written; None: all are.
        tolerance: how much of a malformed data set is forgiven.

    Attributes:
        forgiven: what was forgiven → byte of the data set at which it was first.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        bulk: PlaceBulk = inline,
        inline_up_to: int = INLINE_UP_TO,
        wants: Callable[[int], bool] | None = None,
        tolerance: Tolerance = Tolerance.USUAL,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.forgiven: dict[str, int] = {}
        self._write = write
        self._bulk = bulk
        self._inline_up_to = inline_up_to
        self._wants = wants
        self._tolerance = tolerance
        self._limits = limits
        self._data: Bytes = b""
        self._found: Iterator[Found] = iter(())
        self._sequences = KnownSequences(Scope())
        self._path: list[tuple[int, int]] = []
        self._parts: list[str] = []
        #: Takes the text of an element.
        self._add: Callable[[str], object] = self._parts.append
        self._renderers = self._make_renderers()
        self._length = 0
        #: Whether the elements are known to be in order, and so text may be handed on.
        self._is_in_order = False
        self._again: Callable[[dict[str, int]], Iterator[Found]] = lambda _: iter(())

    def data_set(
        self, data: Buffer, encoding: Encoding, meta: Mapping[int, bytes] | None = None
    ) -> None:
        """Write the data set *data*, inflated where it was deflated.

        Args:
            meta: elements of the File Meta Information, to stand before the others.

        Raises:
            DataSetError: truncated, malformed, nested too deep; some of it may be written.
        """
        try:
            self._whole(data, encoding, meta, is_sorted=False)
        except _OutOfOrder:
            self._whole(data, encoding, meta, is_sorted=True)

    def _whole(
        self,
        data: Buffer,
        encoding: Encoding,
        meta: Mapping[int, bytes] | None,
        *,
        is_sorted: bool,
    ) -> None:
        self._parts.clear()
        self._length = 0
        self._path.clear()
        self._is_in_order = is_sorted
        self._again = partial(self._walk, data, encoding)
        self._begin()
        if meta is not None:
            self._data = _meta_as_data_set(meta)
            self._found = walk(self._data, EXPLICIT_LITTLE)
            self._elements(Scope(), None)
        self._data = data if isinstance(data, bytes) else Parts(memoryview(data))
        scope = Scope()
        self._sequences = KnownSequences(scope)
        found = self._walk(data, encoding, self.forgiven)
        found = _in_order(found) if is_sorted else found
        first = next(found, None)
        if first is not None:
            found = chain((first,), found)
            if first[1] >> 16 == _META_GROUP:
                self.forgiven.setdefault(STRAY_META, 0)
                found = (one for one in found if one[1] >> 16 != _META_GROUP)
        self._found = found
        self._elements(scope, self._wants)
        self._finish()
        self._check_order(self.forgiven)
        self._hand_on()

    def _walk(self, data: Buffer, encoding: Encoding, forgiven: dict[str, int]) -> Iterator[Found]:
        return walk(
            data, encoding, self._limits, self._sequences,
            forgiven=forgiven, tolerance=self._tolerance,
        )  # fmt: skip

    def _elements(self, scope: Scope, wants: Callable[[int], bool] | None) -> None:
        """Write elements up to the end of what they are in."""
        data = self._data
        parts = self._parts
        add = self._add
        renderers = self._renderers
        settled = SETTLED_VRS.get
        for kind, tag, vr, start, end, codec in self._found:
            if kind == VALUE:
                if not tag & 0xFFFF:
                    continue
                if vr is None:
                    vr = settled(tag) or scope.vr_of(tag)
                render = renderers.get(vr)
                if render is None and vr == "UN" and not codec.big_endian:
                    # Somebody on its way did not know it; we may.
                    known = scope.vr_of(tag)
                    render = renderers.get(known)
                    vr = known if render is not None else vr
                if render is None:
                    if (wants is None or wants(tag)) and tag != _TRAILING_PADDING:
                        self._binary(tag, vr, start, end, codec, scope)
                    continue
                raw = data[start:end]
                if tag & _BLOCK_MASK == _OF_CREATORS or tag in _NOTED:
                    scope.note(tag, raw)
                if wants is None or wants(tag):
                    add(render(tag, vr, raw, scope, codec.big_endian))
                    if end - start > _LONG or len(parts) > _MOST_PARTS:
                        self._measure(end - start)
            elif kind == END:
                return
            elif wants is not None and not wants(tag):
                if kind == SEQUENCE:
                    self._pass_over()
            elif kind == SEQUENCE:
                self._sequence(tag, scope)
            else:
                self._binary(tag, vr or "OB", start, end, codec, scope, is_encapsulated=True)

    def _sequence(self, tag: int, scope: Scope) -> None:
        self._open_sequence(tag, scope)
        number = 0
        for found in self._found:
            if found[0] == END:
                break
            self._path.append((tag, number))
            inner = scope.inner()
            self._sequences.scope = inner
            self._open_item(number)
            self._elements(inner, None)
            self._close_item()
            self._sequences.scope = scope
            self._path.pop()
            number += 1
        self._close_sequence(number)

    def _pass_over(self) -> None:
        depth = 1
        for found in self._found:
            kind = found[0]
            if kind == END:
                depth -= 1
                if not depth:
                    return
            elif kind in (SEQUENCE, ITEM):
                depth += 1

    def _binary(
        self,
        tag: int,
        vr: str,
        start: int,
        end: int,
        codec: Codec,
        scope: Scope,
        *,
        is_encapsulated: bool = False,
    ) -> None:
        # What shall be a sequence is none here, and what has a VR to come is bytes.
        vr = vr if vr in BINARY_VRS else "UN"
        if start == end:
            self._add(self._empty(tag, vr, scope))
            return
        is_bulk = end - start > self._inline_up_to or tag in PIXEL_TAGS
        opening, closing = self._around_inline(tag, vr, scope)
        if not is_bulk and not codec.big_endian:
            text = b64encode(self._data[start:end]).decode("ascii")
            self._add(f"{opening}{text}{closing}")
            return
        value = BulkValue(tuple(self._path), tag, vr, start, end, codec, is_encapsulated)
        place = self._bulk(value) if is_bulk else Placement.INLINE
        if isinstance(place, str):
            self._add(self._uri(tag, vr, place, scope))
        elif place is Placement.INLINE:
            self._add(opening)
            for piece in base64_pieces(self._data, value):
                self._parts.append(piece)
                self._measure(len(piece))
            self._parts.append(closing)

    def _measure(self, length: int) -> None:
        """Count what was added, and hand on what is enough."""
        self._length += length
        if self._length > _TOGETHER or len(self._parts) > _MOST_PARTS:
            last = self._parts.pop()  # it may have to be changed where an item ends
            self._hand_on()
            self._parts.append(last)

    def _hand_on(self) -> None:
        if not self._is_in_order:
            # Later it could not be mended any more.
            forgiven = dict(self.forgiven)
            deque(self._again(forgiven), maxlen=0)
            self._check_order(forgiven)
        self._write("".join(self._parts))
        self._parts.clear()
        self._length = 0

    def _check_order(self, forgiven: Mapping[str, int]) -> None:
        if not self._is_in_order and OUT_OF_ORDER in forgiven:
            raise _OutOfOrder
        self._is_in_order = True

    @abstractmethod
    def _make_renderers(self) -> Mapping[str, Render]:
        """VR → what makes the text of an element of it; all but those whose values are bytes."""

    @abstractmethod
    def _begin(self) -> None:
        """Open the text."""

    @abstractmethod
    def _finish(self) -> None:
        """Close it."""

    @abstractmethod
    def _empty(self, tag: int, vr: str, scope: Scope) -> str:
        """An element without a value."""

    @abstractmethod
    def _open_sequence(self, tag: int, scope: Scope) -> None: ...

    @abstractmethod
    def _close_sequence(self, items: int) -> None: ...

    @abstractmethod
    def _open_item(self, number: int) -> None: ...

    @abstractmethod
    def _close_item(self) -> None: ...

    @abstractmethod
    def _uri(self, tag: int, vr: str, uri: str, scope: Scope) -> str:
        """An element whose value is elsewhere."""

    @abstractmethod
    def _around_inline(self, tag: int, vr: str, scope: Scope) -> tuple[str, str]:
        """What stands before and behind the Base64 of an element of bytes."""


def _meta_as_data_set(meta: Mapping[int, bytes]) -> bytes:
    scope = Scope()
    elements: list[WritableElement] = [(tag, scope.vr_of(tag), meta[tag]) for tag in sorted(meta)]
    return write_data_set(elements, EXPLICIT_LITTLE)


def _in_order(found: Iterator[Found]) -> Iterator[Found]:
    """The same, elements in ascending order; of a tag that comes twice the last."""
    elements: dict[int, list[Found]] = {}
    for one in found:
        kind, tag = one[:2]
        if kind == END:
            end = one
            break
        inner = [one]
        if kind == SEQUENCE:
            for item in found:
                inner.append(item)
                if item[0] == END:
                    break
                inner += _in_order(found)
        elements.pop(tag, None)
        elements[tag] = inner
    else:
        end = None
    for tag in sorted(elements):
        yield from elements[tag]
    if end is not None:
        yield end
