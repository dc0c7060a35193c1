"""Two instances side by side."""

from __future__ import annotations

import re

import pytest

from isocenter.services.web.ui.attribute_rows import AttributeRow
from isocenter.services.web.ui.compare_page import compared
from services.archive_support import data_set, store, uid
from services.web.signed_in import Site
from services.web.ui.people import text_of


def tag(number: str, text: str = "", depth: int = 0, vr: str = "LO") -> AttributeRow:
    return AttributeRow(depth=depth, tag=number, name=number, vr=vr, text=text)


def item(number: int, depth: int = 1) -> AttributeRow:
    return AttributeRow(depth=depth, tag="", name=f"Item {number}")


def test_rows_stand_beside_each_other_by_where_they_are() -> None:
    left = [
        tag("00100010", "A"),
        tag("00400275", vr="SQ"),
        item(1), tag("00400007", "x", 1),
        item(2), tag("00400007", "y", 1),
    ]  # fmt: skip
    right = [
        tag("00080060", "CT"),
        tag("00100010", "B"),
        tag("00400275", vr="SQ"), item(1), tag("00400007", "z", 1),
    ]  # fmt: skip
    rows = compared(left, right)
    shown = [
        (one.either.name, one.left and one.left.text, one.right and one.right.text, one.differs)
        for one in rows
    ]
    assert shown == [
        ("00080060", None, "CT", True),
        ("00100010", "A", "B", True),
        ("00400275", "", "", False),
        ("Item 1", "", "", False),
        ("00400007", "x", "z", True),
        ("Item 2", "", None, True),
        ("00400007", "y", None, True),
    ]


def test_the_tenth_item_comes_after_the_ninth() -> None:
    rows = [tag("00400275", vr="SQ"), *(item(number) for number in range(1, 12))]
    assert [one.either.name for one in compared(rows, rows)][9:] == ["Item 9", "Item 10", "Item 11"]
    assert not any(one.differs for one in compared(rows, rows))


async def test_what_differs_is_shown_and_all_when_it_is_wanted(site: Site) -> None:
    cookie = await site.cookie("a-viewer")
    await store(site.parts.archive, 9, data_set(9, patient_name="Doe^<b>"))
    page = await text_of(site, cookie, f"/compare?one={uid(1)}&other={uid(9)}")
    assert "2 attributes differ" in page
    assert "Doe^&lt;b&gt;" in page
    assert "(0008,0018)" in page
    assert "(0008,0060)" not in page
    assert len(re.findall(r"/rendered\?viewport=", page)) == 2
    page = await text_of(site, cookie, f"/compare?one={uid(1)}&other={uid(9)}&all=yes")
    assert "(0008,0060)" in page
    assert 'class="differs"' in page


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 200), (f"one={uid(1)}", 400), (f"one={uid(1)}&other=x", 400),
     (f"one={uid(1)}&other=1.2.99", 404)],
)  # fmt: skip
async def test_what_cannot_be_compared_is_told(site: Site, query: str, status: int) -> None:
    cookie = await site.cookie("a-viewer")
    assert (await site.client.get(f"/compare?{query}", headers=cookie)).status_code == status
