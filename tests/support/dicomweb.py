"""An archive in memory with DICOMweb, served on loopback; and bodies of STOW-RS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from isocenter.services.archive.archive import Archive
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.net.http.application import RoutedApplication
from isocenter.services.net.http.messages import Request
from isocenter.services.net.http.routing import RouteTable
from isocenter.services.notices import Caller, Notices
from isocenter.services.web.dicomweb.search.qido_rs import SearchLimits
from isocenter.services.web.dicomweb.service import dicomweb_routes
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.memory import MemoryStore
from support.threads import in_thread
from support.web_archive import http_serving


@dataclass
class Served:
    """An archive that is served.

    Attributes:
        url: of DICOMweb.
        notices: what was told so far.
    """

    url: str
    archive: Archive
    notices: list[object]


def caller_of(request: Request) -> Caller:
    return Caller(association="test", address=request.host)


@asynccontextmanager
async def serving(archive: Archive | None = None, **more: Any) -> AsyncIterator[Served]:
    """In this event loop; *more*: for `dicomweb_routes`."""
    async with (
        archive or Archive(MemoryStore(), MemoryIndex()) as opened,
        CodecPool(PoolLimits(workers=1)) as pool,
    ):
        told: list[object] = []
        notices = Notices()
        notices.subscribe(told.append)
        routes = dicomweb_routes(
            opened,
            notices,
            pool=pool,
            transcoder=Transcoder(pool),
            search_limits=SearchLimits(default=50, most=100),
            caller_of=caller_of,
            **more,
        )
        async with http_serving(RoutedApplication(RouteTable(routes))) as address:
            yield Served(f"{address}/dicomweb", opened, told)


@contextmanager
def served(archive: Archive | None = None, **more: Any) -> Iterator[Served]:
    """In a thread of its own, for fixtures of a module."""
    with in_thread(partial(serving, archive, **more)) as one:
        yield one


def body(kind: str, *parts: tuple[str, bytes] | tuple[str, str, bytes]) -> dict[str, Any]:
    """What httpx sends of a multipart body of *kind*.

    Args:
        parts: media type, location (not of metadata and objects), and content.
    """
    return multipart(kind, [_part(*one[:-1], content=one[-1]) for one in parts])


def multipart(kind: str, parts: Sequence[bytes]) -> dict[str, Any]:
    """The same, of parts with their headers."""
    content = b"".join(b"--b0b0\r\n" + part + b"\r\n" for part in parts) + b"--b0b0--\r\n"
    said = f'multipart/related; type="{kind}"; boundary=b0b0'
    return {"content": content, "headers": {"content-type": said}}


def _part(media_type: str, location: str = "", *, content: bytes) -> bytes:
    head = f"Content-Type: {media_type}\r\n"
    if location:
        head += f"Content-Location: {location}\r\n"
    return head.encode() + b"\r\n" + content
