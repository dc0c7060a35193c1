"""Re-encoding between the uncompressed transfer syntaxes, as a stream (PS3.5 A.1, A.2, A.3, A.5).

A data set is pushed in, in pieces of any size, and comes out in another encoding; no
value is held, whatever its size.

* Sequences and items leave with undefined length: what they come to is not known
  when their header must be written.
* Group lengths (gggg,0000) are dropped: they would be wrong, and are retired (PS3.5 7.2).
* Values of odd length get the byte that they lack (PS3.5 7.1.1).
* UN keeps its bytes, which are implicit VR little endian everywhere (PS3.5 6.2.2).
* Encapsulated values cannot be expressed in these encodings: they become UN, or native
  Pixel Data, where a `Survey` has found them before, and are refused otherwise.
* Where the header does not change (explicit VR little endian, deflated or not) the
  data set passes byte for byte.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.dataset.codec import codec_of
from isocenter.engine.dataset.errors import DataSetError
from isocenter.engine.dataset.inflate import RAW_DEFLATE, Inflater
from isocenter.engine.dataset.scanner import ElementScanner
from isocenter.engine.dataset.transcoder import Odd, Transcoder, VrOf
from isocenter.engine.dataset.vr import Encoding
from isocenter.engine.limits import DEFAULT_LIMITS, Limits


class Survey:
    """Finds, before the first byte is re-encoded, what of a data set has to go on as one value.

    Those are sequences that cannot be taken apart, and fragments: they become UN with their
    bytes as they stand (PS3.5 6.2.2), or, of native Pixel Data, one value.  In implicit VR, where
    the dictionary makes a sequence of it, such an element is left out.

    Args:
        source, target, vr_of, limits: as of the `Reencoder`.
    """

    __slots__ = ("_inflater", "_transcoder")

    def __init__(
        self,
        source: Encoding,
        target: Encoding,
        vr_of: VrOf,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._inflater = Inflater(limits) if source.deflated else None
        self._transcoder = Transcoder(codec_of(source), codec_of(target), vr_of, limits, None)

    @staticmethod
    def is_needed(source: Encoding, target: Encoding) -> bool:
        """Whether anything is taken apart at all."""
        return codec_of(source) is not codec_of(target)

    @property
    def odd(self) -> Mapping[int, Odd]:
        """What was found, for the `Reencoder`."""
        return self._transcoder.found

    @property
    def next_wanted(self) -> int:
        """Byte of the source that has to be fed next; what is before it may be left out."""
        return 0 if self._inflater is not None else self._transcoder.next_header

    def pass_over(self, count: int) -> None:
        """Leave out *count* bytes, which do not reach beyond `next_wanted`."""
        self._transcoder.pass_over(count)

    def feed(self, chunk: Buffer) -> None:
        """Look at the next piece.

        Raises:
            DataSetError: the data set is malformed, or (`DataSetLimitError`) passes a limit, so
                that it cannot be re-encoded at all.
        """
        chunk = octets(chunk)
        if self._inflater is None:
            self._transcoder.feed(chunk)
        else:
            for piece in self._inflater.feed(chunk):
                self._transcoder.feed(piece)

    def finish(self) -> None:
        """Say that the data set has ended; raises as `feed` does."""
        if self._inflater is not None:
            self._inflater.finish()
        self._transcoder.finish()


class Reencoder:
    """Turns a data set of one encoding into the same data set in another.

    Args:
        source: encoding of what is fed.
        target: encoding of what is returned.
        vr_of: dictionary for elements whose VR the source does not say.  Of what it does
            not know, defined length becomes UN and undefined length SQ.
        limits: ``nesting`` and ``inflate_window``.
        odd: what a `Survey` of the same data set has found.  Without it, what cannot be taken
            apart is refused when it comes.
    """

    __slots__ = ("_deflater", "_error", "_inflater", "_scanner", "_transcoder")

    def __init__(
        self,
        source: Encoding,
        target: Encoding,
        vr_of: VrOf,
        limits: Limits = DEFAULT_LIMITS,
        odd: Mapping[int, Odd] | None = None,
    ) -> None:
        self._inflater = Inflater(limits) if source.deflated else None
        self._deflater = Deflater() if target.deflated else None
        old, new = codec_of(source), codec_of(target)
        # With one header the bytes pass as they are; a scanner still tells whether they may.
        plain = Encoding(old.implicit_vr, old.big_endian)
        self._scanner = ElementScanner(plain, frozenset(), limits) if old is new else None
        self._transcoder = Transcoder(old, new, vr_of, limits, odd or {})
        self._error: DataSetError | None = None

    def feed(self, chunk: Buffer) -> list[Buffer]:
        """Re-encode the next piece.

        Returns:
            Buffers to be written in order.  Some may be views of *chunk*: use them before
            its memory is used again.  Of a deflated source they may come to 1,032 times the
            chunk, so feed it in small pieces.

        Raises:
            DataSetError: the data set is malformed, passes a limit, or cannot be expressed
                in the target encoding.  Every later call raises the same.
        """
        if self._error is not None:
            raise self._error
        try:
            chunk = octets(chunk)
            if self._inflater is None:
                return self._deflated(self._reencode(chunk))
            out: list[Buffer] = []
            for piece in self._inflater.feed(chunk):
                out += self._deflated(self._reencode(piece))
            return out
        except DataSetError as error:
            self._error = error
            raise

    def finish(self) -> list[Buffer]:
        """Say that the data set has ended.

        Returns:
            The last buffers.

        Raises:
            DataSetError: it ended within a header, a value or a sequence.
        """
        if self._error is not None:
            raise self._error
        if self._inflater is not None:
            self._inflater.finish()
        if self._scanner is not None:
            self._scanner.finish()
            out: list[Buffer] = []
        else:
            out = self._transcoder.finish()
        return out if self._deflater is None else [*self._deflated(out), *self._deflater.finish()]

    def _reencode(self, chunk: Buffer) -> list[Buffer]:
        if self._scanner is None:
            return self._transcoder.feed(chunk)
        self._scanner.feed(chunk)
        return [chunk] if len(chunk) else []

    def _deflated(self, buffers: list[Buffer]) -> list[Buffer]:
        return buffers if self._deflater is None else self._deflater.feed(buffers)


class Deflater:
    """Deflates, and pads the stream to even length with one NUL (PS3.5 A.5)."""

    __slots__ = ("_compressor", "_length")

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(wbits=RAW_DEFLATE)
        self._length = 0

    def feed(self, buffers: list[Buffer]) -> list[Buffer]:
        return self._counted([self._compressor.compress(buffer) for buffer in buffers])

    def finish(self) -> list[Buffer]:
        out = self._counted([self._compressor.flush()])
        return [*out, b"\0"] if self._length & 1 else out

    def _counted(self, buffers: list[bytes]) -> list[Buffer]:
        self._length += sum(map(len, buffers))
        return [buffer for buffer in buffers if buffer]
