"""Defined terms and escape sequences of character sets, with Python's codecs (PS3.3 C.12.1.1.2)."""

from __future__ import annotations

from typing import Final

#: What bytes beyond ASCII mean where the default repertoire was declared; many devices do so.
_DEFAULT: Final = "iso8859"

#: Part of ISO 8859 by its number in the registry of ISO: the codec, and the last byte of the
#: escape sequence that designates it as G1 (Tables C.12-2, C.12-3).
_ISO_8859: Final = {
    "100": ("latin_1", b"A"),
    "101": ("iso8859_2", b"B"),
    "109": ("iso8859_3", b"C"),
    "110": ("iso8859_4", b"D"),
    "126": ("iso_ir_126", b"F"),  # Greek
    "127": ("iso_ir_127", b"G"),  # Arabic
    "138": ("iso_ir_138", b"H"),  # Hebrew
    "144": ("iso_ir_144", b"L"),  # Cyrillic
    "148": ("iso_ir_148", b"M"),  # Latin 5: Turkish
    "166": ("iso_ir_166", b"T"),  # Thai
    "203": ("iso8859_15", b"b"),  # Latin 9
}

#: Defined term → Python codec.
TERMS: Final[dict[str, str]] = {
    "": _DEFAULT,
    "ISO_IR 6": _DEFAULT,
    "ISO 2022 IR 6": _DEFAULT,
    **{f"ISO_IR {number}": codec for number, (codec, _) in _ISO_8859.items()},
    **{f"ISO 2022 IR {number}": codec for number, (codec, _) in _ISO_8859.items()},
    # Japanese
    "ISO_IR 13": "shift_jis",
    "ISO 2022 IR 13": "shift_jis",
    "ISO 2022 IR 87": "iso2022_jp",
    "ISO 2022 IR 159": "iso2022_jp_2",
    # Korean
    "ISO 2022 IR 149": "euc_kr",
    # Chinese; terms of which some were never more than a proposal
    "ISO 2022 IR 58": "iso_ir_58",
    "ISO 2022 58": "GB2312",
    "ISO 2022 GBK": "GBK",
    "GBK": "GBK",
    "GB18030": "GB18030",
    # Unicode
    "ISO_IR 192": "UTF8",
}

#: Escape sequence → the codec of what follows it (Tables C.12-3, C.12-4).
ESCAPE_SEQUENCES: Final[dict[bytes, str]] = {
    b"\x1b(B": _DEFAULT,
    **{b"\x1b-" + last: codec for codec, last in _ISO_8859.values()},
    b"\x1b(J": "shift_jis",
    b"\x1b)I": "shift_jis",
    b"\x1b$B": "iso2022_jp",
    b"\x1b$(D": "iso2022_jp_2",
    b"\x1b$)C": "euc_kr",
    b"\x1b$)A": "iso_ir_58",
}
