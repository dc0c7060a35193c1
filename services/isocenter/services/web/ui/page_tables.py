"""Tables of a page as comma-separated values, as they stand there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape, unescape
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urlencode

from isocenter.services.net.http.messages import Request, Response
from isocenter.services.web.comma_separated import MARK, csv_headers, csv_lines

#: What the address says of a page whose table is wanted: the name of its region.
PARAMETER: Final = "csv"
#: A table that the templates let scroll; nothing that an object says is markup in a page.
_REGION: Final = re.compile(
    r'<div class="wide" tabindex="0" role="region" aria-label="(?P<name>[^"]*)">\s*'
    r"(?P<table><table\b.*?</table>)\s*</div>",
    re.DOTALL,
)
#: A page that offers the whole list has a link of its own.
_OWN_LINK: Final = "download>As CSV</a>"
#: Nothing of them is part of a list.
_CONTROLS: Final = frozenset({"button", "form", "select", "input", "label"})
_VOID: Final = frozenset({"input", "br", "img"})


def with_links(content: str, request: Request) -> str:
    """The content of a page, with a link below each table that gives it as a file."""
    if request.method != "GET" or _OWN_LINK in content:
        return content
    kept = [(name, value) for name, value in request.query if name != PARAMETER]

    def linked(found: re.Match[str]) -> str:
        query = urlencode([*kept, (PARAMETER, unescape(found["name"]))])
        return (
            f'{found[0]}\n<p class="as-csv"><a href="?{escape(query)}" download '
            f'aria-label="As CSV: {found["name"]}">As CSV</a></p>'
        )

    return _REGION.sub(linked, content)


def table_response(page: str, name: str) -> Response | None:
    """The table of that name in a page as a file; None: the page has none."""
    for found in _REGION.finditer(page):
        if unescape(found["name"]) == name:
            file = re.sub(r"\W+", "-", name.lower()).strip("-") or "table"
            body = MARK + csv_lines(rows_of(found["table"]))
            return Response(headers=csv_headers(f"{file}.csv"), body=body)
    return None


def rows_of(table: str) -> Sequence[Sequence[str]]:
    """The rows of a table, the head first; columns of buttons and of boxes to mark are none of the
    list's."""
    reader = _TableReader()
    reader.feed(table)
    reader.close()
    if not reader.rows:
        return []
    wanted = [at for at, cell in enumerate(reader.rows[0]) if cell.is_of_list]
    return [[row[at].text for at in wanted if at < len(row)] for row in reader.rows]


class _Cell:
    """What stands in a cell."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self.has_controls = False

    def add(self, text: str) -> None:
        self._words.append(text)

    @property
    def text(self) -> str:
        lines = "".join(self._words).split("\n")
        return "; ".join(filter(None, (" ".join(line.split()) for line in lines)))

    @property
    def is_of_list(self) -> bool:
        return bool(self.text) and not self.has_controls


class _TableReader(HTMLParser):
    """Reads the cells of one table."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[_Cell]] = []
        self._cell: _Cell | None = None
        #: Elements that are open in a cell and whose text does not count.
        self._skipped: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self._cell = _Cell()
            self.rows[-1].append(self._cell)
        elif self._cell is not None:
            self._inside(self._cell, tag, dict(attrs))

    def _inside(self, cell: _Cell, tag: str, attributes: Mapping[str, str | None]) -> None:
        is_unseen = "unseen" in (attributes.get("class") or "").split()
        if tag == "br":
            cell.add("\n")
        if tag in _CONTROLS or is_unseen:
            cell.has_controls = True
        if tag not in _VOID and (tag in _CONTROLS or is_unseen or self._skipped):
            self._skipped.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = None
            self._skipped.clear()
        elif self._skipped:
            self._skipped.pop()

    def handle_data(self, data: str) -> None:
        if self._cell is not None and not self._skipped:
            # A line of the template is none of the text.
            self._cell.add(data.replace("\n", " "))
