"""Tables as comma-separated values (RFC 4180) that spreadsheets can be trusted with."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

from isocenter.services.net.http.messages import Headers

CSV: Final = "text/csv"
#: It makes spreadsheets read what follows as UTF-8.
MARK: Final = b"\xef\xbb\xbf"
#: What a spreadsheet would take for the beginning of a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def csv_headers(name: str) -> Headers:
    """The headers of a file of that name."""
    return (
        ("content-type", f"{CSV}; charset=utf-8; header=present"),
        ("content-disposition", f'attachment; filename="{name}"'),
        ("cache-control", "private, no-store"),
    )


def csv_lines(rows: Iterable[Sequence[str]]) -> bytes:
    """Rows as lines of a file; no cell of them is computed by a spreadsheet."""
    sheet = io.StringIO()
    csv.writer(sheet).writerows([_cell(text) for text in row] for row in rows)
    return sheet.getvalue().encode()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
