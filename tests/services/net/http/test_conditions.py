"""Entity tags and byte ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.net.http.conditions import (
    ByteRange,
    RangeNotSatisfiableError,
    entity_tag,
    is_not_modified,
    is_unchanged,
    requested_range,
)


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=0-0", 0, 1),
        ("bytes=990-", 990, 1000),
        ("bytes=-10", 990, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=900-5000", 900, 1000),
        ("BYTES = 1-2 ,", 1, 3),
    ],
)
def test_one_range(header: str, start: int, stop: int) -> None:
    found = requested_range(header, 1000)
    assert found == ByteRange(start, stop, 1000)
    assert found.content_range == f"bytes {start}-{stop - 1}/1000"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "bytes=1--2",
        "bytes=a-b",
        "items=0-5",
        "bytes=0-1,5-6",
        "bytes=" + "9" * 40 + "-",
    ],
)
def test_the_whole_is_sent(header: str | None) -> None:
    assert requested_range(header, 1000) is None


@pytest.mark.parametrize(
    ("header", "total"), [("bytes=1000-", 1000), ("bytes=-0", 1000), ("bytes=0-", 0)]
)
def test_a_range_of_nothing(header: str, total: int) -> None:
    with pytest.raises(RangeNotSatisfiableError) as caught:
        requested_range(header, total)
    assert caught.value.content_range == f"bytes */{total}"


def test_a_part_of_what_has_changed_is_the_whole() -> None:
    for if_range, is_part in (('"a"', True), ('"b"', False), ('W/"a"', False), ("Tue", False)):
        found = requested_range("bytes=0-0", 10, tag='"a"', if_range=if_range)
        assert (found is not None) is is_part
    assert requested_range("bytes=0-0", 10, tag='W/"a"', if_range='W/"a"') is None


def test_what_the_caller_has() -> None:
    tag = entity_tag("a-1")
    assert tag == '"a-1"'
    for header in ('"a-1"', 'W/"a-1"', '"x", "a-1"', "*", ' "x","a-1" '):
        assert is_not_modified(header, tag)
    for header in (None, "", '"x"', "a-1", '"a-1'):
        assert not is_not_modified(header, tag)


def test_a_precondition() -> None:
    assert is_unchanged(None, None)
    assert is_unchanged('"b", "a"', '"a"')
    assert is_unchanged("*", '"a"')
    assert not is_unchanged("*", None)
    assert not is_unchanged('"b"', '"a"')
    assert not is_unchanged('W/"a"', 'W/"a"')


def test_a_tag_that_would_end_its_quotes_is_an_error() -> None:
    for text in ('a"b', "a b", "a\r\n"):
        with pytest.raises(ValueError, match="entity tag"):
            entity_tag(text)


@given(st.text("bytes=0123456789-, ", max_size=30), st.integers(0, 100))
def test_any_range_lies_within(header: str, total: int) -> None:
    try:
        found = requested_range("bytes=" + header, total)
    except RangeNotSatisfiableError:
        return
    assert found is None or 0 <= found.start < found.stop <= total
