"""Static files of a folder, with tags, ranges, caching, and no way out."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.http.conditions import entity_tag, is_not_modified
from isocenter.services.net.http.messages import Headers, HttpError, Request, Response
from isocenter.services.net.http.protocol import FileRegion
from isocenter.services.net.http.ranged_response import ranged_response

#: What browsers do with a file depends on it; what is not here is a download.
MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".gif": "image/gif",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/vnd.microsoft.icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
}
_OTHER: Final = "application/octet-stream"
#: Its name changes with its content.
_FOR_EVER: Final = "public, max-age=31536000, immutable"
#: It is asked each time whether it has changed; mostly it has not (304).
_ASK: Final = "no-cache"
_PIECE: Final = 1 << 20
#: So that a page may share memory with its workers, which viewers of images need (COOP, COEP).
ISOLATED: Final = (
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "same-origin"),
)


@dataclass(frozen=True, slots=True)
class _Known:
    """The digest of a file, as long as it is the same file."""

    identity: tuple[int, int, int]
    digest: str


class StaticFiles:
    """The handler of a route whose path ends in ``{path...}``, or of the folder itself.

    Only regular files below the folder are served, whatever a path or a link says; nothing whose
    name, or whose folder's name, begins with a dot.

    Args:
        never_changes: whether the name of a file changes with its content, so that nobody has to
            ask for it again; gets the path below the folder.
        fallback: the file for paths that are none, as pages with addresses of their own need it;
            empty: 404.  What has a dot in its name is always a file.
        headers: of each answer.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        never_changes: Callable[[str], bool] = lambda path: False,
        index: str = "index.html",
        fallback: str = "",
        headers: Headers = (),
    ) -> None:
        self._folder = Path(folder).resolve()
        self._never_changes = never_changes
        self._index = index
        self._fallback = fallback
        self._headers = tuple(headers)
        self._known: dict[str, _Known] = {}

    async def __call__(self, request: Request) -> Response:
        """Answer with a file.

        Raises:
            HttpError: there is none (404).
        """
        path = request.arguments.get("path", "").strip("/") or self._index
        opened = await trio.to_thread.run_sync(self._opened, path)
        if opened is None and self._fallback and "." not in path.rpartition("/")[2]:
            path = self._fallback
            opened = await trio.to_thread.run_sync(self._opened, path)
        if opened is None:
            raise HttpError(404, "NOT_FOUND", "there is nothing at this path")
        descriptor, size, digest = opened
        tag = entity_tag(digest)
        headers = [
            ("etag", tag),
            ("cache-control", _FOR_EVER if self._never_changes(path) else _ASK),
            *self._headers,
        ]
        if is_not_modified(request.header("if-none-match"), tag):
            os.close(descriptor)
            return Response(status=304, headers=headers)
        kind = MEDIA_TYPES.get(Path(path).suffix.lower(), _OTHER)
        headers.append(("content-type", kind))
        body = [FileRegion(descriptor, 0, size)]
        return ranged_response(request, body, headers, tag, lambda: os.close(descriptor))

    def _opened(self, path: str) -> tuple[int, int, str] | None:
        """Descriptor, size and digest of a file; None: there is none."""
        if any(part in ("", ".", "..") or part[0] == "." for part in path.split("/")):
            return None
        if "\\" in path or "\0" in path or ":" in path:
            return None
        place = (self._folder / path).resolve()
        if not place.is_relative_to(self._folder):
            return None  # a link leads out of the folder
        try:
            descriptor = os.open(
                place, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
            )
        except OSError:
            return None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                os.close(descriptor)
                return None
            return descriptor, found.st_size, self._digest(path, descriptor, found)
        except BaseException:
            os.close(descriptor)
            raise

    def _digest(self, path: str, descriptor: int, found: os.stat_result) -> str:
        identity = (found.st_ino, found.st_size, found.st_mtime_ns)
        known = self._known.get(path)
        if known is not None and known.identity == identity:
            return known.digest
        digest = hashlib.sha256()
        at = 0
        while piece := os.pread(descriptor, _PIECE, at):
            digest.update(piece)
            at += len(piece)
        known = self._known[path] = _Known(identity, digest.hexdigest()[:32])
        return known.digest
