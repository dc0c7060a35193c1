"""Tables of pages as comma-separated values, without a script."""

from __future__ import annotations

import csv
import re
from html import unescape
from io import StringIO

from isocenter.services.web.ui.page_tables import rows_of
from services.archive_support import data_set, store
from services.web.signed_in import Site
from services.web.ui.people import text_of


def test_a_table_is_read_as_it_is_seen() -> None:
    table = """
      <table><thead><tr><th><span class="unseen">Chosen</span></th><th>Who</th><th>What</th>
      <th><span class="unseen">Actions</span></th></tr></thead><tbody>
      <tr><td><input type="checkbox" name="a"></td><td>Roe &amp; <b>Doe</b><br>
        twice</td><td>=1+1 <form><button>Press</button> said</form> &lt;x&gt;</td>
        <td><form><button>End</button></form></td></tr>
      <tr><td></td><td colspan="2">short <span class="quiet">note</span></td></tr>
      </tbody></table>"""
    assert rows_of(table) == [
        ["Who", "What"], ["Roe & Doe; twice", "=1+1 <x>"], ["short note"],
    ]  # fmt: skip
    assert rows_of("<table></table>") == []


async def test_each_list_can_be_taken_away_with_its_filter(site: Site) -> None:
    data = data_set(9, study="1.2.88", series="1.2.88.1", patient_id="<9>", patient_name="Roe^R")
    await store(site.parts.archive, 9, data)
    cookie = await site.cookie("a-system")
    found = {}
    for path in sorted({route.path for route in site.routes if route.method == "GET"}):
        if "{" in path or not path.strip("/").isalpha():
            continue
        answer = await site.client.get(f"{path}?find=a&ae=x", headers=cookie)
        if answer.headers.get("content-type") != "text/html; charset=utf-8":
            continue
        assert answer.text.count('role="region"') <= answer.text.count(">As CSV</a>"), path
        for link in re.findall(r'<p class="as-csv"><a href="([^"]*)"', answer.text):
            address = unescape(link)
            assert address.startswith("?find=a&ae=x&csv="), "the filter stays"
            table = await site.client.get(f"{path}{address}", headers=cookie)
            assert table.headers["content-type"].startswith("text/csv"), address
            assert "attachment" in table.headers["content-disposition"]
            rows = list(csv.reader(StringIO(table.content.decode("utf-8-sig"))))
            assert rows[0], address
            assert all(rows[0]), address
            assert {len(row) for row in rows} == {len(rows[0])}, f"{path}: {rows}"
            found[path] = rows
    assert {"/arrivals", "/users", "/about", "/settings"} <= found.keys()
    (arrival,) = [row for row in found["/arrivals"] if "Roe, R" in row]
    assert "<9>" in arrival


async def test_a_table_that_is_not_there_is_a_page(site: Site) -> None:
    cookie = await site.cookie("a-system")
    assert "<h1>Users</h1>" in await text_of(site, cookie, "/users?csv=nothing")
