"""Rows of the catalogue as comma-separated values (RFC 4180), for spreadsheets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from isocenter.services.archive.index.query import Page
from isocenter.services.net.http.messages import Response
from isocenter.services.web.comma_separated import MARK, csv_headers, csv_lines
from isocenter.services.web.ui.catalogue import Listed, Row
from isocenter.services.web.ui.texts import date_text, list_text, person_name, time_text

#: Rows that are in memory at a time.
_AT_ONCE: Final = 500


async def csv_response(
    name: str, columns: Sequence[str], find: Callable[[Page], Awaitable[Listed]]
) -> Response:
    """A whole list as a file, however long it is.

    Args:
        name: of the file.
        columns: keywords of attributes.

    Raises:
        HttpError: as *find* does.
    """
    first = await find(Page(limit=_AT_ONCE))  # what is wrong is said before the file begins
    return Response(headers=csv_headers(name), body=_lines(columns, find, first))


async def _lines(
    columns: Sequence[str], find: Callable[[Page], Awaitable[Listed]], found: Listed
) -> AsyncIterator[bytes]:
    yield MARK + csv_lines([columns])
    while found.rows:
        yield csv_lines([_shown(row, column) for column in columns] for row in found.rows)
        if len(found.rows) < _AT_ONCE:
            return
        found = await find(Page(limit=_AT_ONCE, after=found.places[-1]))


def _shown(row: Row, keyword: str) -> str:
    text = row[keyword]
    if keyword.endswith("Name"):
        return person_name(text)
    if keyword.endswith("Date"):
        return date_text(text)
    if keyword.endswith("Time"):
        return time_text(text)
    return list_text(text)
