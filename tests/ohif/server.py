"""Server of the viewer and of DICOMweb: ``python -m ohif.server FOLDER LOG``.

Prints its address; LOG gets a line of JSON for each request: what was asked and answered.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import IO, Any, Final

import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.net.http.application import RoutedApplication
from isocenter.services.net.http.exchange import Application, Message, Receive, Scope, Send
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Route, RouteTable
from isocenter.services.net.http.static_files import ISOLATED, StaticFiles
from isocenter.services.notices import Caller, Notices
from isocenter.services.web.dicomweb.service import dicomweb_routes
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.memory import MemoryStore
from support.web_archive import http_serving

#: What the viewer asks for, and how.
_SOURCE: Final = {
    "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
    "sourceName": "dicomweb",
    "configuration": {
        "friendlyName": "Isocenter",
        "name": "isocenter",
        "wadoUriRoot": "/dicomweb/wado",
        "qidoRoot": "/dicomweb",
        "wadoRoot": "/dicomweb",
        "qidoSupportsIncludeField": True,
        "supportsFuzzyMatching": True,
        "supportsWildcard": True,
        "imageRendering": "wadors",
        "thumbnailRendering": "thumbnailDirect",
        "enableStudyLazyLoad": True,
        "omitQuotationForMultipartRequest": True,
        "singlepart": "bulkdata,video,pdf,thumbnail,image",
        "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
    },
}
_CONFIG: Final = {
    "name": "isocenter",
    "routerBasename": "/",
    "extensions": [],
    "modes": [],
    "customizationService": {},
    "showStudyList": True,
    "showWarningMessageForCrossOrigin": False,
    "showCPUFallbackMessage": False,
    "showLoadingIndicator": True,
    "strictZSpacingForVolumeViewport": True,
    "investigationalUseDialog": {"option": "never"},
    "defaultDataSourceName": "dicomweb",
    "dataSources": [_SOURCE],
}


async def _config(request: Request) -> Response:
    text = f"window.config = {json.dumps(_CONFIG)};"
    headers = [("content-type", "text/javascript"), ("cache-control", "no-store")]
    return Response(headers=headers, body=text.encode())


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
    files = StaticFiles(
        folder,
        never_changes=lambda path: ".bundle." in path,
        fallback="index.html",
        headers=ISOLATED,
    )
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
            Route(method="GET", path="/app-config.js", handler=_config, text="Settings."),
            Route(method="GET", path="/", handler=files, text="The viewer."),
            Route(method="GET", path="/{path...}", handler=files, text="Its files."),
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
