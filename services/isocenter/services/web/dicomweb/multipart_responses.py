"""Multipart responses of DICOMweb (PS3.18 8.6.1)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from isocenter.engine.buffers import Buffer
from isocenter.services.net.http.messages import Headers, Response
from isocenter.services.net.http.multipart import MultipartWriter

_BOUNDARY_DIGITS: Final = 40
_GZIP_LEVEL: Final = 2
#: Answers of fewer matches are short.
WORTH_GZIP: Final = 10


def gzipped(body: Buffer) -> bytes:
    """The body of an answer, compressed (RFC 9110 8.4.1.3): made anew each time, so quickly."""
    return zlib.compress(body, _GZIP_LEVEL, wbits=31)


def boundary_for(*names: str) -> str:
    """The boundary of a resource: the same whenever it is asked for, so that a part of the body
    can be asked for later, and in no object by chance."""
    return sha256("\n".join(names).encode()).hexdigest()[:_BOUNDARY_DIGITS]


def multipart_type(media_type: str, boundary: str) -> str:
    """The value of `Content-Type` of a body whose parts are *media_type*."""
    return f'multipart/related; type="{media_type}"; boundary={boundary}'


def multipart_response(media_type: str, parts: Sequence[Buffer], headers: Headers = ()) -> Response:
    """A response of parts that are here already."""
    boundary = boundary_for(media_type, str(len(parts)), *(sha256(p).hexdigest() for p in parts))
    writer = MultipartWriter(boundary)
    body: list[Buffer] = []
    for part in parts:
        body += [writer.begin_part([("Content-Type", media_type)]), part]
    body.append(writer.end())
    content = ("content-type", multipart_type(media_type, boundary))
    return Response(headers=[*headers, content], body=body)
