"""The latest lines of the log, kept for people."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from isocenter.services.notices import association_name
from isocenter.services.system.log_format import configure
from isocenter.services.system.recent_log import RecentLog

ROOT = logging.getLogger("isocenter")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = ROOT.level, ROOT.handlers[:], ROOT.propagate
    yield
    ROOT.setLevel(before[0])
    ROOT.handlers[:] = before[1]
    ROOT.propagate = before[2]


def test_only_the_latest_lines_are_kept_the_last_first() -> None:
    recent = RecentLog(2)
    ROOT.addHandler(recent)
    token = association_name.set("ab-1")
    for number in range(3):
        logging.getLogger("isocenter.test").warning("line %d", number)
    association_name.reset(token)
    assert [(one.message, one.association) for one in recent.lines()] == [
        ("line 2", "ab-1"),
        ("line 1", "ab-1"),
    ]


def test_of_what_went_wrong_here_the_kind_is_kept_and_no_values() -> None:
    recent = RecentLog()
    ROOT.addHandler(recent)
    try:
        raise ValueError("somebody's name")
    except ValueError:
        logging.getLogger("isocenter.test").exception("it failed")
    assert recent.lines()[0].message == "it failed (ValueError)"


def test_a_reload_of_the_settings_keeps_the_lines_and_keeps_more() -> None:
    recent = RecentLog()
    ROOT.addHandler(recent)
    configure("error", as_json=True)
    logging.getLogger("isocenter.test").error("one more")
    assert [one.message for one in recent.lines()] == ["one more"]
