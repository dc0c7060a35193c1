"""Buffers: types of bytes that may be given, and copies made at the door.

A view has items of any format and shape, and `len` counts its items.  Whoever measures a buffer
or cuts it calls `octets` on it first, so that inside of the engine a length is one in bytes.
"""

from __future__ import annotations

from isocenter.engine.errors import LocalProtocolError

Buffer = bytes | bytearray | memoryview


def octets(buffer: Buffer) -> bytes | memoryview:
    """*buffer* as bytes, one after the other: itself, or a view of the same memory.

    Anything with the buffer protocol will do: an ``array.array``, a ``mmap``, an array of numpy.
    Its memory is not copied, except where Python has no view of it as bytes: items of a byte
    order that is not this machine's.  As long as the view lives, a ``bytearray`` cannot be
    resized (`BufferError`).

    Raises:
        LocalProtocolError: no buffer, one that was released, or one with gaps in it or in another
            order than C's; ``bytes(view)`` copies such a view into one that is taken.
    """
    if type(buffer) is bytes:
        return buffer
    try:
        view = buffer if type(buffer) is memoryview else memoryview(buffer)
        if view.c_contiguous and view.format == "B" and view.ndim == 1:
            return view
    except (TypeError, ValueError, BufferError) as error:
        raise LocalProtocolError(f"no buffer of bytes: {error}") from error
    if not view.c_contiguous:
        raise LocalProtocolError(
            f"a view of format {view.format!r} and shape {view.shape} is not contiguous; "
            "pass bytes(view)"
        )
    try:
        return view.cast("B")
    except (TypeError, ValueError):  # no items at all, or of a format that Python does not cast
        return memoryview(view.tobytes())
