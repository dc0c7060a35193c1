"""Head of a data set as bytes: its elements' places, and replacements.

The head is all before the first element behind the Original Attributes Sequence (0400,0561).
What values mean is the business of `isocenter.services.archive.coercion.coercer`.

Standard: PS3.5 7.1, 7.2, 7.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError
from isocenter.engine.dataset.codec import (
    HEADER_LENGTH,
    Codec,
)
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.nesting import Nesting
from isocenter.engine.dataset.vr import DELIMITERS, ITEM, UNDEFINED_LENGTH
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.limits import Limits

ORIGINAL_ATTRIBUTES_SEQUENCE: Final = 0x04000561

#: Bytes of a head that are held.  Real ones have some kilobytes, with private headers and an
#: icon some hundred; per-frame attributes and pixels come behind it.
MAX_HEAD: Final = 8 << 20
#: Top-level elements of a head: real ones have some hundreds, and each costs more memory than
#: the eight bytes that it may have.
MAX_HEAD_ELEMENTS: Final = 20_000


class CoercionError(IsocenterError):
    """A data set to which rules cannot be applied; the message shows no value."""

    error_code = ErrorCode.CORRECTION


def head_too_long() -> CoercionError:
    """What is raised where `MAX_HEAD` is passed."""
    return CoercionError(
        f"the attributes up to {tag_text(ORIGINAL_ATTRIBUTES_SEQUENCE)} take more than "
        f"{MAX_HEAD} bytes"
    )


class HeadElement(NamedTuple):
    """A top-level element, and where its header, its value and its end are, in bytes.

    The value of undefined length ends with its delimitation item.
    """

    tag: int
    vr: str | None
    start: int
    value: int
    end: int
    has_undefined_length: bool


class HeadScanner:
    """Finds the top-level elements of a head while it comes, and where it ends.

    As lenient as `isocenter.engine.dataset.ElementScanner`, which looks at the same bytes.

    Attributes:
        elements: in the data set's order; the value of the last may be yet to come.
        end: where the first element behind the head starts, once it was seen.
    """

    __slots__ = ("_codec", "_nesting", "_opened", "_pos", "elements", "end")

    def __init__(self, codec: Codec, limits: Limits) -> None:
        self.elements: list[HeadElement] = []
        self.end: int | None = None
        self._codec = codec
        self._pos = 0
        self._nesting = Nesting(limits)
        #: The top-level element that all of the nesting belongs to; its end is not known.
        self._opened: HeadElement | None = None

    def scan(self, data: Buffer) -> None:
        """Go on with *data*, which is all of the data set that has come so far.

        Raises:
            DataSetError: it is malformed or passes a limit.
            CoercionError: it is longer, or will be, or has more elements than a head may have.
        """
        while self.end is None:
            if self._nesting.opened:
                self._pos = self._nesting.follow(data, self._pos, 0)
                if not self._nesting.opened and self._opened is not None:
                    self.elements.append(self._opened._replace(end=self._pos))
                    self._opened = None
                goes_on = not self._nesting.opened
            else:
                goes_on = self._pos + HEADER_LENGTH <= len(data) and self._step(data)
            if self._pos > MAX_HEAD:
                raise head_too_long()
            if not goes_on:
                break
            if len(self.elements) > MAX_HEAD_ELEMENTS:
                raise CoercionError(
                    f"more than {MAX_HEAD_ELEMENTS} attributes up to "
                    f"{tag_text(ORIGINAL_ATTRIBUTES_SEQUENCE)}"
                )

    def finish(self, size: int) -> int:
        """Say that the data set has ended within its head, after *size* bytes; where the last
        element of it ends, before any padding.

        Raises:
            DataSetError: there it cannot end.
        """
        if self._pos > size or self._nesting.opened:
            raise DataSetError("the data set ends within an element", size)
        return self._pos

    def _step(self, data: Buffer) -> bool:
        """Take one top-level header; False when more of it must come."""
        pos = self._pos
        codec = self._codec
        raw, length = codec.item_header.unpack_from(data, pos)
        tag = codec.raw(raw)
        if tag in DELIMITERS:
            # Outside of a sequence: passed over.
            self._pos = pos + HEADER_LENGTH
            if tag == ITEM:
                if length == UNDEFINED_LENGTH:
                    self._nesting.open_item(codec)
                else:
                    self._pos += length
            return True
        if tag > ORIGINAL_ATTRIBUTES_SEQUENCE:
            self.end = pos
            return True
        vr = None
        value = pos + HEADER_LENGTH
        if not codec.implicit_vr:
            _, key, short_length = codec.explicit_header.unpack_from(data, pos)
            vr = codec.short_vrs.get(key)
            if vr is not None:
                length = short_length
            else:
                found = codec.odd_header(data, pos)
                if found is None:
                    return False
                vr, length, header_length = found
                value = pos + header_length
        if length == UNDEFINED_LENGTH:
            self._opened = HeadElement(tag, vr, pos, value, value, has_undefined_length=True)
            self._nesting.open(tag, vr, codec, pos)
            self._pos = value
            return True
        self._pos = value + length
        self.elements.append(
            HeadElement(tag, vr, pos, value, self._pos, has_undefined_length=False)
        )
        return True


class Head:
    """A whole head.

    Attributes:
        last: tag → element; of a tag that comes twice the last counts, as for every reader
            that makes a mapping of it.
    """

    __slots__ = ("_elements", "data", "last")

    def __init__(self, data: bytes, elements: list[HeadElement]) -> None:
        self.data = data
        self.last = {element.tag: element for element in elements}
        self._elements = elements

    def raw(self, element: HeadElement) -> bytes:
        """Its value as it stands in the data set."""
        return self.data[element.value : element.end]

    def whole(self, element: HeadElement) -> bytes:
        """Header and value."""
        return self.data[element.start : element.end]

    def spliced(self, anew: Mapping[int, bytes]) -> bytes:
        """The head with some elements replaced or added, all others byte for byte as they were.

        Of a group whose length changes, the group length (gggg,0000) is dropped.

        Args:
            anew: tag → the whole element; nothing, and the element is removed.
        """
        growth = {tag >> 16: 0 for tag in anew}
        for tag, element in anew.items():
            growth[tag >> 16] += len(element)
        for old in self._elements:
            if old.tag in anew:
                growth[old.tag >> 16] -= old.end - old.start
        added = sorted((tag for tag in anew if tag not in self.last), reverse=True)
        parts: list[bytes] = []
        kept_from = 0
        for old in self._elements:
            here = []
            while added and added[-1] < old.tag:
                here.append(anew[added.pop()])
            is_stale = not old.tag & 0xFFFF and growth.get(old.tag >> 16, 0) != 0
            if not here and not is_stale and old.tag not in anew:
                continue
            parts += [self.data[kept_from : old.start], *here]
            kept_from = old.start
            if is_stale:
                kept_from = old.end
            elif old.tag in anew:
                kept_from = old.end
                if old is self.last[old.tag]:
                    parts.append(anew[old.tag])
        parts.append(self.data[kept_from:])
        parts += [anew[tag] for tag in reversed(added)]
        return b"".join(parts)
