"""Reads the annotated vectors beside it: hexadecimal bytes, "text in ASCII", # comments."""

from __future__ import annotations

import re
from pathlib import Path

_TOKEN = re.compile(r'"([^"]*)"|([0-9A-Fa-f ]+)|(#.*)')


def read_vector(name: str) -> bytes:
    """The bytes of ``name``.hex."""
    data = b""
    for line in (Path(__file__).parent / f"{name}.hex").read_text("ascii").splitlines():
        position = 0
        while position < len(line):
            token = _TOKEN.match(line, position)
            if token is None:
                raise ValueError(f"{name}.hex: {line!r}")
            text, digits, _ = token.groups()
            if text is not None:
                data += text.encode("ascii")
            elif digits is not None:
                data += bytes.fromhex(digits)
            position = token.end()
    return data
