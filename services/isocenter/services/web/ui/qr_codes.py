"""QR codes in pages: texts that a camera reads."""

from __future__ import annotations

from markupsafe import Markup


def qr_code(text: str) -> Markup | None:
    """A text as a picture that stands in the page itself (SVG); None: segno is not installed.

    It is dark on light in both themes, with the margin that cameras want, and of the size that the
    style of the page gives it.
    """
    try:
        import segno
    except ImportError:
        return None
    code = segno.make(text, error="m", micro=False)
    picture = code.svg_inline(border=4, dark="#000", light="#fff", omitsize=True)
    return Markup(picture)  # noqa: S704  (made of modules, and not of the text)
