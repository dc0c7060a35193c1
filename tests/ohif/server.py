"""Server of the viewer and of DICOMweb: ``python -m ohif.server FOLDER LOG``.

Prints its address; LOG gets a line of JSON for each request: what was asked and answered.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import IO, Any

import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.net.http.application import RoutedApplication
from isocenter.services.net.http.exchange import Application, Message, Receive, Scope, Send
from isocenter.services.net.http.messages import Request
from isocenter.services.net.http.routing import RouteTable
from isocenter.services.notices import Caller, Notices
from isocenter.services.web.dicomweb.service import dicomweb_routes
from isocenter.services.web.viewer.service import viewer_routes
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.memory import MemoryStore
from support.web_archive import http_serving


def _caller_of(request: Request) -> Caller:
    return Caller(association="viewer", address=request.host)


def _logged(application: Application, log: IO[str]) -> Application:
    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        entry: dict[str, Any] = {
            "method": scope["method"],
            "path": scope["raw_path"].decode("latin-1"),
            "query": scope["query_string"].decode("latin-1"),
            "asked": {n.decode(): v.decode("latin-1") for n, v in scope["headers"]},
            "size": 0,
        }

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
                entry["headers"] = {
                    name.decode(): value.decode("latin-1") for name, value in message["headers"]
                }
            else:
                entry["size"] += message.get("count", len(message.get("body", b"")))
            await send(message)

        try:
            await application(scope, receive, counted)
        finally:
            log.write(json.dumps(entry) + "\n")
            log.flush()

    return logged


async def _serve(folder: Path, log: IO[str]) -> None:
    async with (
        Archive(MemoryStore(), MemoryIndex()) as archive,
        CodecPool(PoolLimits(workers=1)) as pool,
    ):
        routes = [
            *dicomweb_routes(
                archive,
                Notices(),
                pool=pool,
                transcoder=Transcoder(pool),
                caller_of=_caller_of,
            ),
            *viewer_routes(folder),
        ]
        application = _logged(RoutedApplication(RouteTable(routes)), log)
        async with http_serving(application) as url:
            print(url, flush=True)
            await trio.sleep_forever()


def main() -> None:
    """Serve until somebody ends it."""
    folder, log = map(Path, sys.argv[1:])
    with log.open("a", encoding="utf-8") as file:
        trio.run(_serve, folder, file)


if __name__ == "__main__":
    main()
