"""Events of a capture: connections, bytes, gaps, ends.

A reader of captures yields these in the order in which they happened; who looks at them
(`isocenter.services.diagnostics.dissect`) needs to know no file format.
"""

from __future__ import annotations

from isocenter.engine.buffers import Buffer
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass


class CaptureError(IsocenterError):
    """A capture that cannot be written or read: which, why, and what would help."""

    error_code = ErrorCode.FILE_NOT_READ


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """A connection.

    Attributes:
        connection: its number; the other values refer to it.
        time: seconds, of whatever clock the capture has; only differences count.
        client: ``host:port`` of who connected, or of who spoke first where that is not known.
        server: ``host:port`` of the other end.
        is_complete: whether the capture holds it from its first byte.
        at: seconds since 1970 (UTC), where it is known.
    """

    connection: int
    time: float
    client: str
    server: str
    is_complete: bool = True
    at: float | None = None


@dataclass(frozen=True, slots=True)
class BytesCaptured:
    """Bytes, as they arrived in order; at least one."""

    connection: int
    time: float
    by_client: bool
    data: Buffer


@dataclass(frozen=True, slots=True)
class BytesMissing:
    """*count* bytes went over the connection, but the capture does not hold them."""

    connection: int
    time: float
    by_client: bool
    count: int


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """One side closed the connection; with ``was_reset`` both ways at once."""

    connection: int
    time: float
    by_client: bool
    was_reset: bool = False


@dataclass(frozen=True, slots=True)
class CaptureEnded:
    """The capture has no more of this connection, though it was open."""

    connection: int
    time: float


Captured = ConnectionOpened | BytesCaptured | BytesMissing | ConnectionClosed | CaptureEnded
