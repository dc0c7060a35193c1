"""Text as a database can hold it."""

from __future__ import annotations


def replace_surrogates(text: str) -> str:
    """*text* as UTF-8 can hold it: a lone surrogate must fail no query and no batch."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
