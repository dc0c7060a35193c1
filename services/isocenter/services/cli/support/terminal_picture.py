"""Pictures on a terminal: kitty, iTerm2, or half blocks in colour."""

from __future__ import annotations

import os
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final

_KITTY_CHUNK: Final = 4096
_UPPER_HALF: Final = "\u2580"
_RESET: Final = "\x1b[0m"


class PictureProtocol(Enum):
    """How a terminal is told a picture."""

    KITTY = "kitty"
    ITERM = "iterm"
    BLOCKS = "blocks"


def protocol_of(environ: Mapping[str, str] = os.environ) -> PictureProtocol:
    """What the terminal of this process can, as far as it says so."""
    program = environ.get("TERM_PROGRAM", "") or environ.get("LC_TERMINAL", "")
    if environ.get("TMUX"):
        return PictureProtocol.BLOCKS  # it passes on nothing else by itself
    if (
        environ.get("KITTY_WINDOW_ID")
        or "kitty" in environ.get("TERM", "")
        or (program.lower() == "ghostty")
    ):
        return PictureProtocol.KITTY
    if program in ("iTerm.app", "iTerm2", "WezTerm", "mintty"):
        return PictureProtocol.ITERM
    return PictureProtocol.BLOCKS


def show_png(png: bytes, protocol: PictureProtocol) -> Iterator[str]:
    """What shows a PNG file on a terminal that takes one."""
    text = b64encode(png).decode("ascii")
    if protocol is PictureProtocol.ITERM:
        yield f"\x1b]1337;File=inline=1;size={len(png)}:{text}\x07\n"
        return
    for start in range(0, len(text), _KITTY_CHUNK):
        more = int(start + _KITTY_CHUNK < len(text))
        control = f"a=T,f=100,m={more}" if not start else f"m={more}"
        yield f"\x1b_G{control};{text[start : start + _KITTY_CHUNK]}\x1b\\"
    yield "\n"


def show_blocks(pixels: Any, *, has_truecolor: bool) -> Iterator[str]:
    """What shows pixels as text, two rows of them in one line.

    Args:
        pixels: an array of rows, columns and, in colour, three samples of a byte.
        has_truecolor: 24 bits; else 256 colours.
    """
    rows, columns = pixels.shape[:2]
    is_gray = pixels.ndim == 2

    def colour(row: int, column: int) -> tuple[int, int, int]:
        value = pixels[row, column]
        return (int(value),) * 3 if is_gray else (int(value[0]), int(value[1]), int(value[2]))

    for row in range(0, rows, 2):
        line: list[str] = []
        before = ""
        for column in range(columns):
            code = _code(38, colour(row, column), has_truecolor)
            if row + 1 < rows:
                code += _code(48, colour(row + 1, column), has_truecolor)
            line.append(_UPPER_HALF if code == before else code + _UPPER_HALF)
            before = code
        yield "".join((*line, _RESET, "\n"))


def _code(ground: int, colour: tuple[int, int, int], has_truecolor: bool) -> str:
    red, green, blue = colour
    if has_truecolor:
        return f"\x1b[{ground};2;{red};{green};{blue}m"
    if red == green == blue:
        number = 232 + min(red * 24 // 256, 23)
    else:
        number = 16 + 36 * (red * 6 // 256) + 6 * (green * 6 // 256) + blue * 6 // 256
    return f"\x1b[{ground};5;{number}m"


def has_truecolor(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the terminal says that it shows 24 bits of colour."""
    return environ.get("COLORTERM", "") in ("truecolor", "24bit")


def is_shown() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()
