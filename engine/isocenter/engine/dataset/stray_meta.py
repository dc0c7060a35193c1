"""File Meta Information left in a data set, removed while it passes.

Some senders do not take group 0002 out of what they send (PS3.5 7.1, PS3.7 6.3.1).  Behind
File Meta Information of ours, a reader that goes by groups would believe it: it could name
another transfer syntax or another object.  Only the head of the data set is dangerous so;
behind any other group, and within items, group 0002 means nothing to anybody and stays.

The groups of a command set (0000) and of a directory (0004) are no left-overs, and refused
at the head for the same reason.  Groups 0001, 0003, 0005 and 0007 may not be used either
(PS3.5 7.8), but nobody takes them for anything: they stay.
"""

from __future__ import annotations

import zlib
from typing import Final

from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.dataset.codec import HEADER_LENGTH, LONG_HEADER_LENGTH, codec_of
from isocenter.engine.dataset.errors import DataSetError
from isocenter.engine.dataset.file_meta import FILE_META_GROUP, MAX_FILE_META_LENGTH
from isocenter.engine.dataset.inflate import RAW_DEFLATE, Inflater
from isocenter.engine.dataset.reencode import Deflater
from isocenter.engine.dataset.vr import DANGEROUS_GROUPS, EXPLICIT_LITTLE, Encoding
from isocenter.engine.limits import DEFAULT_LIMITS, Limits

_GROUP_LENGTH: Final = 2
#: Bytes of a deflate stream with no two bytes in them: a block has a header of 320 at most.
_LONGEST_START: Final = 4096
#: How group 0002 begins in little endian, whatever the transfer syntax of the data set is.
_LITTLE_ENDIAN_META: Final = b"\x02\0"
_EXPLICIT_CODEC: Final = codec_of(EXPLICIT_LITTLE)


class StrayMetaFilter:
    """Passes a data set on, without the group 0002 at its head.

    A deflated data set is deflated anew where it begins so, and else passes as it came.

    Args:
        encoding: of the data set.  Group 0002 may be in explicit VR little endian all the same.
        limits: ``inflate_window``.

    Attributes:
        dropped: bytes of group 0002 that did not go on, inflated.
    """

    __slots__ = (
        "_codec", "_deflater", "_encoding", "_head", "_held", "_inflater", "_is_past_head",
        "_limits", "_position", "_probe", "_skip", "dropped",
    )  # fmt: skip

    def __init__(self, encoding: Encoding, limits: Limits = DEFAULT_LIMITS) -> None:
        self._encoding = encoding
        self._limits = limits
        self._codec = codec_of(encoding)
        #: What was not passed on yet: less than a header; or as it came, of a deflated one.
        self._held = b""
        #: How a deflated one begins, inflated.
        self._probe = zlib.decompressobj(RAW_DEFLATE) if encoding.deflated else None
        self._head = b""
        self._skip = 0
        self._position = 0
        self._is_past_head = False
        self._inflater: Inflater | None = None
        self._deflater: Deflater | None = None
        self.dropped = 0

    @property
    def passes_all(self) -> bool:
        """Whether all that comes from now on goes on as it is."""
        return self._is_past_head and self._deflater is None

    def feed(self, chunk: Buffer) -> list[Buffer]:
        """Take the next piece, of any size.

        Returns:
            Buffers to go on with, in order.  Some may be views of *chunk*: use them before its
            memory is used again.

        Raises:
            DataSetError: the data set begins with a group that no reader may see there, or
                with more of group 0002 than is File Meta Information; or is not deflated.
        """
        if self.passes_all:
            return [chunk]
        chunk = octets(chunk)
        if not self._encoding.deflated:
            return self._strip(chunk)
        if self._inflater is None:
            since = len(self._held)
            self._held += bytes(chunk)
            if not self._has_begun(since):
                return []
            chunk, self._held = self._held, b""
            if self._is_past_head:
                return [chunk]
            self._inflater, self._deflater = Inflater(self._limits), Deflater()
        assert self._deflater is not None
        out: list[Buffer] = []
        for piece in self._inflater.feed(chunk):
            out += self._deflater.feed(self._strip(piece))
        return out

    def finish(self) -> list[Buffer]:
        """Say that the data set has ended; returns what is still to go on.

        Raises:
            DataSetError: it ended within group 0002, or its deflate stream has not ended.
        """
        is_undecided = self._encoding.deflated and self._inflater is None
        if self._skip or (len(self._held) >= HEADER_LENGTH and not is_undecided):
            raise DataSetError("the data set ends within group 0002", self._position)
        held: list[Buffer] = [self._held] if self._held else []
        self._held = b""
        if self._inflater is None or self._deflater is None:
            return held
        self._inflater.finish()
        return [*self._deflater.feed(held), *self._deflater.finish()]

    def _has_begun(self, since: int) -> bool:
        """Whether enough has come to tell how the deflated data set begins; what is held is
        looked at from byte *since* on."""
        assert self._probe is not None
        for at in range(since, len(self._held)):
            # One at a time, so that a fault behind the first bytes is not met in some pieces only.
            try:
                self._head += self._probe.decompress(self._held[at : at + 1])
            except zlib.error as error:
                raise DataSetError("not a deflated data set (PS3.5 A.5)", 0) from error
            if len(self._head) >= _GROUP_LENGTH:
                group = int.from_bytes(self._head[:_GROUP_LENGTH], "little")
                self._is_past_head = group not in DANGEROUS_GROUPS
                return True
        if len(self._held) > _LONGEST_START:
            raise DataSetError("the deflated data set does not begin (PS3.5 A.5)", 0)
        return False

    def _strip(self, chunk: Buffer) -> list[Buffer]:
        if self._is_past_head:
            return [chunk]
        if self._held:
            chunk = self._held + chunk
            self._held = b""
        size = len(chunk)
        pos = 0
        while True:
            taken = min(self._skip, size - pos)
            self._skip -= taken
            self._position += taken
            pos += taken
            length = self._meta_length(chunk, pos)
            if length is None:
                self._held = bytes(chunk[pos:])
                return []
            if not length:
                self._is_past_head = True
                return [memoryview(chunk)[pos:]]
            self.dropped += length
            if self.dropped > MAX_FILE_META_LENGTH:
                raise DataSetError(
                    f"group 0002 is longer than {MAX_FILE_META_LENGTH} bytes", self._position
                )
            self._skip = length

    def _meta_length(self, chunk: Buffer, pos: int) -> int | None:
        """Length of the element of group 0002 at *pos*, with its header; 0 for any other one,
        None where more has to come to tell."""
        if self._skip or len(chunk) - pos < HEADER_LENGTH:
            return None
        codec = self._codec
        start = bytes(chunk[pos : pos + LONG_HEADER_LENGTH])
        _, key, _ = _EXPLICIT_CODEC.explicit_header.unpack_from(start)
        if start.startswith(_LITTLE_ENDIAN_META) and (
            key in _EXPLICIT_CODEC.short_vrs or key in _EXPLICIT_CODEC.long_vrs
        ):
            codec = _EXPLICIT_CODEC
        raw, length = codec.item_header.unpack_from(start)
        group = codec.raw(raw) >> 16
        if group != FILE_META_GROUP:
            if group in DANGEROUS_GROUPS:
                raise DataSetError(
                    f"group {group:04X} does not belong into a data set (PS3.5 7.1)",
                    self._position,
                )
            return 0
        if codec.implicit_vr:
            return HEADER_LENGTH + int(length)
        _, key, short_length = codec.explicit_header.unpack_from(start)
        if key in codec.short_vrs:
            return HEADER_LENGTH + int(short_length)
        found = codec.odd_header(start, 0)
        return None if found is None else found[1] + found[2]
