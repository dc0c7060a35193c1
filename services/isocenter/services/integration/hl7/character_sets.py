"""The character sets of HL7 v2 (Table 0211, MSH-18) as Python has them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

#: HL7 Table 0211, and what senders write instead → Python's codec.
_CODECS: Final = {
    "ASCII": "ascii",
    "UNICODEUTF8": "utf-8",
    "UTF8": "utf-8",
    "UNICODE": "utf-8",
    "WINDOWS1252": "cp1252",
    "CP1252": "cp1252",
    "LATIN1": "iso8859-1",
    **{
        name.format(part): f"iso8859-{part}"
        for part in (*range(1, 12), *range(13, 17))
        for name in ("8859{}", "ISO8859{}")
    },
    # One codec knows the escape sequences of all of these.
    **dict.fromkeys(
        ("ISOIR6", "ISOIR14", "ISOIR87", "ISOIR159", "JAS2020", "JISX0202"), "iso2022_jp_ext"
    ),
    "GB180302000": "gb18030",
    "GB18030": "gb18030",
    "KSX1001": "euc_kr",
    "BIG5": "big5",
}

#: What is meant where nothing is said.
_ASCII: Final = "ASCII"


def codec_of(character_set: str) -> str | None:
    """Python's codec for a value of HL7 Table 0211; None: unknown."""
    return _CODECS.get(re.sub(r"[^A-Z0-9]", "", character_set.upper()))


def codec_of_all(character_sets: Iterable[str]) -> str | None:
    """The one codec for all repetitions of MSH-18, of which an empty one is ASCII.

    None: one is unknown, or no codec knows them all.
    """
    codecs = {codec_of(name or _ASCII) for name in character_sets}
    # The others have its characters, too: ``ASCII~ISO IR87`` is how Japanese orders are sent.
    codecs.discard("ascii")
    if len(codecs) > 1:
        return None
    return codecs.pop() if codecs else "ascii"
