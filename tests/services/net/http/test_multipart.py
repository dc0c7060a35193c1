"""Multipart bodies: what parsers of others write and read, cut anywhere."""

from __future__ import annotations

import itertools
from email import message_from_bytes
from email.policy import HTTP

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from isocenter.services.net.http.media_types import MediaType, parse_media_type
from isocenter.services.net.http.multipart import (
    MOST_HEADER_BYTES,
    MOST_PREAMBLE_BYTES,
    MultipartError,
    MultipartParser,
    MultipartWriter,
    PartData,
    PartEnded,
    PartStarted,
    boundary_of,
)

_Part = tuple[tuple[tuple[str, str], ...], bytes]


def parts_of(body: bytes, *, cuts: tuple[int, ...] = (), boundary: str = "b") -> list[_Part]:
    parser = MultipartParser(boundary, most_parts=10)
    found: list[_Part] = []
    is_open = False
    marks = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    for start, stop in itertools.pairwise(marks):
        for event in parser.feed(body[start:stop]):
            match event:
                case PartStarted(headers):
                    assert not is_open
                    is_open = True
                    found.append((headers, b""))
                case PartData(data):
                    assert is_open
                    assert len(data)
                    found[-1] = (found[-1][0], found[-1][1] + bytes(data))
                case PartEnded():
                    assert is_open
                    is_open = False
    parser.close()
    assert not is_open
    return found


def test_a_body_as_it_ought_to_be() -> None:
    body = b"--b\r\nContent-Type: a/b\r\nX:  y \r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n"
    assert parts_of(body) == [((("content-type", "a/b"), ("x", "y")), b"one"), ((), b"two")]


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n--b\r\n\r\none\r\n--b--",  # dcmjs' client begins with a line end
        b"preamble\r\n--b\r\n\r\none\r\n--b--\r\nepilogue\r\n--b\r\n",
        b"--b \t\r\n\r\none\r\n--b-- \r\n",
        b"--b\n\none\r\n--b--\r\n",  # line ends of headers as of a text
    ],
)
def test_what_is_forgiven(body: bytes) -> None:
    assert parts_of(body) == [((), b"one")]


@pytest.mark.parametrize(
    "content",
    [b"", b"\r", b"\r\n", b"\r\n--", b"--b", b"\r\n-b", b"\n--b", b"\r\r\n--a", b"\r\n\r\n"],
)
def test_content_that_looks_like_a_delimiter(content: bytes) -> None:
    if content == b"--b":
        content = b"x--b"  # at its beginning it would be one
    body = b"--b\r\n\r\n" + content + b"\r\n--b\r\n\r\n" + content + b"\r\n--b--"
    for cut in range(len(body)):
        assert parts_of(body, cuts=(cut,)) == [((), content)] * 2


def test_a_part_without_content_and_without_its_line_end() -> None:
    assert parts_of(b"--b\r\nX: y\r\n\r\n--b--") == [((("x", "y"),), b"")]


def test_a_folded_header() -> None:
    assert parts_of(b"--b\r\nX: y\r\n  z\r\n\r\n\r\n--b--") == [((("x", "y z"),), b"")]


def test_no_part_at_all() -> None:
    assert parts_of(b"--b--\r\n") == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "before its last delimiter"),
        (b"--b", "before its last delimiter"),
        (b"--b\r\n\r\none", "before its last delimiter"),
        (b"--b\r\n\r\none\r\n--b", "before its last delimiter"),
        (b"--b\r\nX: y", "before its last delimiter"),
        (b"--b\r\n\r\n" * 11, "more than 10 parts"),
        (b"--bb\r\n\r\none\r\n--bb--", "followed by something else"),
        (b"--b-\r\n", "followed by something else"),
        (b"--b" + b" " * 9_000, "followed by something else"),
        (b"--b\r\nno header\r\n\r\n", "header line"),
        (b"--b\r\n: x\r\n\r\n", "header line"),
        (b"--b\r\nX: " + b"y" * MOST_HEADER_BYTES, "bytes of headers"),
        (b"x" * (MOST_PREAMBLE_BYTES + 1), "does not begin the body"),
        (b"--other\r\n\r\n" + b"x" * MOST_PREAMBLE_BYTES, "does not begin the body"),
    ],
)
def test_what_is_refused(body: bytes, words: str) -> None:
    for cuts in ((), tuple(range(0, len(body), 7))):
        with pytest.raises(MultipartError, match=words):
            parts_of(body, cuts=cuts)


def test_no_byte_is_copied_where_none_need_be_kept() -> None:
    parser = MultipartParser("b", most_parts=1)
    list(parser.feed(b"--b\r\n\r\n" + b"x"))
    piece = b"y" * 100_000
    (event,) = parser.feed(piece)
    assert isinstance(event, PartData)
    assert isinstance(event.data, memoryview)
    assert event.data.obj is piece


def test_boundaries() -> None:
    assert boundary_of(parse_media_type('multipart/related; boundary="a b=_c"')) == "a b=_c"
    for given_ in ("", "; boundary=", '; boundary="a "', "; boundary=é", "; boundary=" + "a" * 201):
        with pytest.raises(MultipartError):
            boundary_of(MediaType("multipart/related", _parameters(given_)))


def _parameters(text: str) -> tuple[tuple[str, str], ...]:
    return tuple(("boundary", part.partition("=")[2].strip('"')) for part in text.split(";")[1:])


def test_a_part_says_what_it_is() -> None:
    part = PartStarted((("content-type", "application/dicom; transfer-syntax=1.2"),))
    assert part.media_type == MediaType("application/dicom", (("transfer-syntax", "1.2"),))
    assert PartStarted(()).media_type is None


def test_a_header_that_ends_its_line_is_an_error() -> None:
    for value in ("a\r\nX: y", "a\n", "\r"):
        with pytest.raises(ValueError, match="line end"):
            MultipartWriter("b").begin_part([("Content-Location", value)])


_HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["Content-Type", "Content-Location", "X-Y"]),
        st.text("abc/;=. 1", max_size=12).map(str.strip),
    ),
    max_size=3,
).map(tuple)
_CONTENT = st.lists(st.sampled_from([b"\r", b"\n", b"-", b"b", b"--b", b"x", b"\x00"])).map(
    b"".join
)


def _write(parts: list[_Part], boundary: str) -> bytes:
    writer = MultipartWriter(boundary)
    body = b"".join(writer.begin_part(headers) + content for headers, content in parts)
    body += writer.end()
    lengths = [(headers, len(content)) for headers, content in parts]
    assert len(body) == MultipartWriter(boundary).length(lengths)
    return body


@given(
    st.lists(st.tuples(_HEADERS, _CONTENT), max_size=4),
    st.lists(st.integers(0, 300), max_size=8).map(tuple),
)
@example([((), b"\r\n--a")], (9, 10, 11))
def test_what_is_written_is_read_back(parts: list[_Part], cuts: tuple[int, ...]) -> None:
    boundary = "bound-ary"  # in no content
    found = parts_of(_write(parts, boundary), cuts=cuts, boundary=boundary)
    assert found == [
        (tuple((name.lower(), value) for name, value in headers), content)
        for headers, content in parts
    ]


@given(st.lists(st.binary(max_size=50).filter(lambda content: b"\r\n--bound" not in content)))
def test_pythons_own_parser_reads_it(contents: list[bytes]) -> None:
    parts = [((("Content-Type", "application/octet-stream"),), content) for content in contents]
    body = b"Content-Type: multipart/related; boundary=bound\r\n\r\n" + _write(list(parts), "bound")
    payload = message_from_bytes(body, policy=HTTP).get_payload() if contents else []
    assert len(payload) == len(contents)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5).map(tuple))
def test_however_a_body_is_cut_it_tells_the_same(body: bytes, cuts: tuple[int, ...]) -> None:
    body = b"--b\r\n" + body.replace(b"b", b"\r\n--b").replace(b"h", b"\r\n\r\n") + b"\r\n--b--"

    def told(cuts: tuple[int, ...]) -> list[_Part] | None:
        try:
            return parts_of(body, cuts=cuts)
        except MultipartError:
            return None

    assert told(cuts) == told(())
