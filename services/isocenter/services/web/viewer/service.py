"""Routes of the viewer: its files, its settings, and what its page may do."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.net.http.static_files import ISOLATED, StaticFiles
from isocenter.services.web.deidentified_answers import names_nobody
from isocenter.services.web.dicomweb.urls import ROOT
from isocenter.services.web.principal import what_may
from isocenter.services.web.study_scope import only_study
from isocenter.services.web.viewer.package import PATH

_SCRIPT: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_SOURCE: Final[dict[str, Any]] = {
    "friendlyName": "Isocenter",
    "name": "isocenter",
    "qidoRoot": ROOT,
    "wadoRoot": ROOT,
    "wadoUriRoot": f"{ROOT}/wado",
    "qidoSupportsIncludeField": True,
    "supportsFuzzyMatching": True,
    "supportsWildcard": True,
    "imageRendering": "wadors",
    "thumbnailRendering": "thumbnailDirect",
    "enableStudyLazyLoad": True,
    "omitQuotationForMultipartRequest": True,
    "singlepart": "bulkdata,video,pdf,thumbnail,image",
    "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
}
_CONFIG: Final[dict[str, Any]] = {
    "name": "isocenter",
    "routerBasename": PATH,
    "extensions": [],
    "modes": [],
    "customizationService": {},
    "showStudyList": True,
    "showWarningMessageForCrossOrigin": False,
    "showCPUFallbackMessage": True,
    "showLoadingIndicator": True,
    "strictZSpacingForVolumeViewport": True,
    "investigationalUseDialog": {"option": "always"},
    "defaultDataSourceName": "dicomweb",
}
#: A script is governed by the page that runs it; a worker by this.  Its decoders make functions of
#: text, and it reaches nothing but this server.
_WORKERS: Final = (
    "default-src 'none'; script-src 'self' blob: 'unsafe-eval' 'wasm-unsafe-eval'; "
    "connect-src 'self' blob: data:"
)
#: Whoever is not signed in any more signs in, and comes back.
_HANDLER: Final = (
    "window.config.httpErrorHandler = (error) => {"
    " if (error.status === 401) location.href = "
    '"/sign-in?next=" + encodeURIComponent(location.pathname + location.search); };'
)


def viewer_routes(folder: Path) -> Sequence[Route[Handler]]:
    """The routes of the viewer that is installed in *folder*."""

    def files(policy: str) -> StaticFiles:
        return StaticFiles(
            folder,
            never_changes=lambda path: ".bundle." in path and not path.endswith(".css"),
            fallback="index.html",
            headers=(*ISOLATED, ("content-security-policy", policy)),
        )

    page, others = files(_policy(folder / "index.html")), files(_WORKERS)

    async def handle(request: Request) -> Response:
        name = request.arguments.get("path", "").rpartition("/")[2]
        return await (others if "." in name else page)(request)

    def route(path: str, handler: Handler, text: str) -> Route[Handler]:
        return Route(
            method="GET", path=path, handler=names_nobody(handler), text=text, needs="read"
        )

    return [
        route(f"{PATH}/app-config.js", _config, "Settings of the viewer."),
        route(PATH, handle, "The viewer."),
        route(f"{PATH}/{{path...}}", handle, "Its files."),
    ]


async def _config(request: Request) -> Response:
    """The settings, by what the caller may do."""
    source = {**_SOURCE}
    if "write" in what_may(request.caller):
        source |= {"stowRoot": ROOT, "dicomUploadEnabled": True}
    config = {
        **_CONFIG,
        # Who has a link to one study has no list.
        "showStudyList": not only_study(request),
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "dicomweb",
                "configuration": source,
            }
        ],
    }
    text = f"window.config = {orjson.dumps(config).decode()};\n{_HANDLER}\n"
    headers = [
        ("content-type", "text/javascript; charset=utf-8"),
        ("cache-control", "private, no-store"),
        *ISOLATED,
    ]
    return Response(headers=headers, body=text.encode())


def _policy(index: Path) -> str:
    """What the page may do: nothing with anybody else, no script but its own.

    Its arrays make functions of text, without which no segmentation opens.
    """
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in _SCRIPT.findall(index.read_bytes())
    )
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' blob: 'unsafe-eval' 'wasm-unsafe-eval' {hashes}",
            "worker-src 'self' blob:",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' blob: data:",
            "media-src 'self' blob:",
            "font-src 'self' data:",
            "connect-src 'self' blob: data:",
            "manifest-src 'self'",
            "frame-src 'self' blob:",
            "object-src 'self' blob:",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'self'",
        ]
    )
