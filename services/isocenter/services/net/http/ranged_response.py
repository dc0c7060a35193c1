"""Response with a whole body, or the part that `Range` asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from isocenter.services.net.http.conditions import RangeNotSatisfiableError, requested_range
from isocenter.services.net.http.messages import HttpError, Piece, Request, Response
from isocenter.services.net.http.protocol import FileRegion


def ranged_response(
    request: Request,
    body: Sequence[Piece],
    headers: list[tuple[str, str]],
    tag: str,
    close: Callable[[], None] | None = None,
) -> Response:
    """The body, or the part of it that `Range` asks for."""
    total = sum(map(len, body))
    headers = [*headers, ("accept-ranges", "bytes")]
    try:
        part = requested_range(
            request.header("range"), total, tag=tag, if_range=request.header("if-range")
        )
    except RangeNotSatisfiableError as error:
        if close is not None:
            close()
        raise HttpError(
            416, "NO_SUCH_RANGE", str(error), [("content-range", error.content_range)]
        ) from error
    if part is None:
        return Response(headers=headers, body=body, close=close)
    headers.append(("content-range", part.content_range))
    found = _cut(body, part.start, part.stop)
    return Response(status=206, headers=headers, body=found, close=close)


def _cut(body: Sequence[Piece], start: int, stop: int) -> list[Piece]:
    found: list[Piece] = []
    at = 0
    for piece in body:
        low, high = max(start - at, 0), min(stop - at, len(piece))
        if low < high:
            if isinstance(piece, FileRegion):
                found.append(FileRegion(piece.descriptor, piece.offset + low, high - low))
            else:
                found.append(memoryview(piece)[low:high])
        at += len(piece)
    return found
