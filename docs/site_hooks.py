"""Hooks of MkDocs: versions, old addresses that lead on, nothing loaded from other hosts."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

log = logging.getLogger("mkdocs.hooks.site")

#: A script, style sheet, image, font or frame that a browser fetches by itself.
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*?\bsrc=["']?((?:https?:)?//[^"' >]+)"""
    r"""|<link\b(?=[^>]*rel=["']?(?:stylesheet|preconnect|preload|icon))[^>]*?"""
    r"""\bhref=["']?((?:https?:)?//[^"' >]+)""",
    re.IGNORECASE,
)

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Moved</title>
<meta name="robots" content="noindex">
<meta http-equiv="refresh" content="0; url={target}">
<script>location.replace("{target}" + location.hash)</script>
</head>
<body>This page has moved: <a href="{target}">{target}</a></body>
</html>
"""


def on_config(config: Any) -> Any:
    """Pages that stand beside those of other versions (docs/versions.py) have a selector."""
    if os.environ.get("ISOCENTER_DOCS_VERSIONED"):
        config.extra["version"] = {"provider": "mike", "default": "latest"}
    return config


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """A page that needs another host is a warning, and with ``strict`` an error."""
    for match in _LOADED.finditer(output):
        log.warning("%s loads %s", page.file.src_uri, match[1] or match[2])
    return output


def on_post_build(*, config: Any, **_: Any) -> None:
    """A small page at each old address."""
    site = Path(config.site_dir)
    for old, new in config.extra["redirects"].items():
        address = new.removesuffix(".md") + "/"
        place = site / old / "index.html"
        if not (site / address).exists():
            log.warning("%s is to lead to %s, which is no page", old, new)
        if place.exists():
            log.warning("%s is a page, and cannot lead to another one", old)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(_PAGE.format(target="../" * old.count("/") + address), "utf-8")
