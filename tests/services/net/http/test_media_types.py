"""Media types and `Accept`, as the standard writes them and as viewers do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.net.http.media_types import (
    MOST_RANGES,
    MediaType,
    MediaTypeError,
    parse_accept,
    parse_media_type,
)

_DICOM = MediaType("multipart/related", (("type", "application/dicom"),))


@pytest.mark.parametrize(
    "text",
    [
        'multipart/related; type="application/dicom"',
        "multipart/related; type=application/dicom",
        "Multipart/Related;TYPE=application/dicom;",
        'multipart/related ; ; type = "application/dicom" ',
        'multipart/related; type="application\\/dicom"',
    ],
)
def test_one_type_in_many_spellings(text: str) -> None:
    assert parse_media_type(text) == _DICOM


def test_a_media_type_within_quotes_keeps_its_parameters() -> None:
    found = parse_media_type('multipart/related; type="image/jpeg; transfer-syntax=1.2.3"')
    inner = parse_media_type(found.parameter("type") or "")
    assert inner == MediaType("image/jpeg", (("transfer-syntax", "1.2.3"),))


@pytest.mark.parametrize(
    "text",
    ["", "text", "text/", "/plain", "a/b c", "a/b; c", 'a/b; c="d', "a/b, c/d", "*/plain", "é/b"],
)
def test_no_media_type(text: str) -> None:
    with pytest.raises(MediaTypeError):
        parse_media_type(text)


def test_a_parameter_with_two_values_is_an_error() -> None:
    with pytest.raises(MediaTypeError, match="boundary"):
        parse_media_type("multipart/related; boundary=a; boundary=b")
    assert parse_media_type("a/b; c=d; c=d").parameter("c") == "d"


def test_no_accept_is_anything() -> None:
    for text in ("", "  ", ", ,"):
        (one,) = parse_accept(text)
        assert (one.range.name, one.quality) == ("*/*", 1.0)


def test_members_in_their_order_with_their_quality() -> None:
    found = parse_accept("text/html, image/gif;q=0.5, image/*;q=.25;x=y, *; q=.2, */*; q=1.000")
    assert [(str(one.range), one.quality) for one in found] == [
        ("text/html", 1.0),
        ("image/gif", 0.5),
        ("image/*; x=y", 0.25),
        ("*/*", 0.2),
        ("*/*", 1.0),
    ]


def test_a_comma_within_quotes_ends_no_member() -> None:
    first, second = parse_accept('a/b; c="d, e/f", g/h')
    assert (first.range.parameter("c"), second.range.name) == ("d, e/f", "g/h")


def test_what_ohif_sends() -> None:
    found = parse_accept(
        "application/dicom+json, "
        "multipart/related; type=application/octet-stream; transfer-syntax=*"
    )
    assert [one.range.name for one in found] == ["application/dicom+json", "multipart/related"]
    assert found[1].range.parameter("transfer-syntax") == "*"


def test_damaged_members_are_left_out() -> None:
    found = parse_accept('image, text/plain; q=2, image/png, x/y; z="')
    assert [one.range.name for one in found] == ["image/png"]


def test_nothing_but_damage_is_an_error() -> None:
    with pytest.raises(MediaTypeError):
        parse_accept("image, ;;")


def test_a_list_without_end_is_bounded() -> None:
    assert len(parse_accept("a/b," * 5_000)) == MOST_RANGES


def test_what_a_range_covers() -> None:
    assert MediaType("*/*").covers("image/png")
    assert MediaType("image/*").covers("image/png")
    assert not MediaType("image/*").covers("imagery/png")
    assert not MediaType("image/png").covers("image/jpeg")
    order = ["*/*", "image/*", "image/png", "image/png; a=b"]
    found = [parse_media_type(text).specificity for text in order]
    assert found == sorted(set(found))


_TOKENS = st.text("abcxyz019+.-", min_size=1, max_size=8)
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
_TYPES = st.builds(
    lambda kind, subtype, given: MediaType(f"{kind}/{subtype}", tuple(given.items())),
    _TOKENS,
    _TOKENS,
    st.dictionaries(_TOKENS.filter(lambda name: name != "q"), _VALUES, max_size=4),
)


@given(_TYPES)
def test_what_is_written_is_read_back(media_type: MediaType) -> None:
    assert parse_media_type(str(media_type)) == media_type


@given(st.lists(_TYPES, min_size=1, max_size=6))
def test_a_list_is_read_back(types: list[MediaType]) -> None:
    assert [one.range for one in parse_accept(", ".join(map(str, types)))] == types


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (parse_accept, parse_media_type):
        try:
            read(text)
        except MediaTypeError:
            pass
