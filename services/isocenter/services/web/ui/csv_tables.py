"""Rows of the catalogue as comma-separated values (RFC 4180), for spreadsheets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from isocenter.services.net.http.messages import Response
from isocenter.services.web.comma_separated import MARK, csv_headers, csv_lines
from isocenter.services.web.ui.catalogue import Row
from isocenter.services.web.ui.texts import date_text, list_text, person_name, time_text

#: Rows of a table that a program takes away.
MOST_CSV_ROWS: Final = 10_000


def csv_response(name: str, columns: Sequence[str], rows: Iterable[Row]) -> Response:
    """Rows as a file.

    Args:
        name: of the file.
        columns: keywords of attributes.
    """
    cells = ([_shown(row, column) for column in columns] for row in rows)
    return Response(headers=csv_headers(name), body=MARK + csv_lines([columns, *cells]))


def _shown(row: Row, keyword: str) -> str:
    text = row[keyword]
    if keyword.endswith("Name"):
        return person_name(text)
    if keyword.endswith("Date"):
        return date_text(text)
    if keyword.endswith("Time"):
        return time_text(text)
    return list_text(text)
