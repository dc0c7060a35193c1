"""Response headers that keep browsers from taking data for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: What is stored came from anywhere: documents, pictures with scripts, XML with style sheets.
_NOTHING: Final = "default-src 'none'; frame-ancestors 'none'; sandbox"
#: A browser's viewer of PDF runs in no sandbox, and lets no script of it reach the page.
_FRAMED_HERE: Final = "frame-ancestors 'self'"
_SHOWN: Final = ("application/pdf", "image/", "video/", "audio/")
#: A browser runs what is within.
_SVG: Final = "image/svg"


def protections(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """What an answer says beside its own *headers*: it is what its content type says, it is shown
    in no page of another origin, and nothing in it runs.  What they say already stays."""
    said = {name.lower(): value for name, value in headers}
    content_type = said.get("content-type", "").strip().lower()
    is_shown = content_type.startswith(_SHOWN) and not content_type.startswith(_SVG)
    wanted = {
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
        "content-security-policy": _FRAMED_HERE if is_shown else _NOTHING,
        "referrer-policy": "no-referrer",
    }
    return [(name, value) for name, value in wanted.items() if name not in said]
