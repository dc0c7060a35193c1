"""Structured reports as text and HTML, held against DCMTK's reading of them."""

from __future__ import annotations

import subprocess
from html.parser import HTMLParser
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file

from isocenter.services.dicom.structured_report import (
    is_report,
    lines_of,
    report_html,
    report_text,
    title_of,
)

FILES = ("test-SR.dcm", "reportsi.dcm", "reportsi_with_empty_number_tags.dcm")


def path_of(name: str) -> str:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return path


def model_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = pydicom.dcmread(path_of(name)).to_json_dict()
    return found


class Balance(HTMLParser):
    """Fails where an element is not closed in its order; counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.items = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.items += tag == "li"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.interop("dsrdump")
def test_every_item_of_the_tree_is_there() -> None:
    name = FILES[0]
    done = subprocess.run(["dsrdump", path_of(name)], capture_output=True, timeout=60, check=True)
    items = [
        line for line in done.stdout.decode("latin-1").splitlines() if "<" in line.lstrip()[:1]
    ]
    lines = list(lines_of(model_of(name)))
    assert len(lines) == len(items) - 1  # the first is the root
    for line, item in zip(lines, items[1:], strict=True):
        assert line.depth == (len(item) - len(item.lstrip())) // 2 - 1
        assert line.name in item


@pytest.mark.parametrize("name", FILES)
def test_text_and_html_say_the_same(name: str) -> None:
    model = model_of(name)
    assert is_report(model["00080016"]["Value"][0])
    text, page = report_text(model), report_html(model)
    assert text.startswith(title_of(model) + "\n=")
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    lines = list(lines_of(model))
    assert balance.items == len(lines) == text.count("\n- ") + text.count("  - ")


def test_values_of_all_kinds() -> None:
    text = report_text(model_of("test-SR.dcm"))
    for expected in ("Some UID: 1.2.3.4.5", "Diameter: 3", " cm", "Code: Sample Code 1",
                     "see 1.2.2.1", "SCoord Code: circle", "Date: 20001206"):  # fmt: skip
        assert expected in text


def test_what_is_in_a_report_is_never_markup() -> None:
    bad = "<script>alert(1)</script>\"'&"
    concept = {"vr": "SQ", "Value": [{"00080104": {"vr": "LO", "Value": [bad]}}]}
    item = {
        "0040A040": {"vr": "CS", "Value": ["TEXT"]},
        "0040A043": concept,
        "0040A160": {"vr": "UT", "Value": [bad]},
    }
    model = {
        "0040A043": concept,
        "0040A730": {"vr": "SQ", "Value": [item]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": bad}]},
    }
    page = report_html(model)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 5


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"0040A730": {"vr": "SQ"}},
        {"0040A730": {"vr": "SQ", "Value": [None, {}, {"0040A730": {"vr": "SQ", "Value": [{}]}}]}},
        {"0040A730": "x", "0040A043": {"vr": "SQ", "Value": ["x"]}},
    ],
)
def test_odd_reports_are_shown_as_far_as_they_go(model: dict[str, Any]) -> None:
    assert report_text(model).startswith("Structured report\n")
    balance = Balance()
    balance.feed(report_html(model))
    assert balance.open == []
