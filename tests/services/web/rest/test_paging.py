"""Pages of lists: every item once, also while others come and go."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.web.cursors import Key, cursor
from isocenter.services.web.rest.bodies import Body
from isocenter.services.web.rest.paging import link_headers, page_of, page_request


class Thing(Body):
    """Something in a list."""

    name: str


def request_of(query: str) -> Request:
    async def receive() -> dict[str, object]:
        raise AssertionError("there is no body")

    return Request(
        {
            "method": "GET", "scheme": "https", "raw_path": b"/api/v1/things",
            "query_string": query.encode(), "headers": [],
        },
        receive,
    )  # fmt: skip


def key(thing: Thing) -> Key:
    return (thing.name,)


def names_of(query: str, things: list[Thing]) -> tuple[list[str], str | None]:
    page = page_of(things, page_request(request_of(query)), key)
    assert page.pagination.total == len(things)
    assert page.pagination.count == len(page.data)
    return [thing.name for thing in page.data], page.pagination.next


def test_a_list_is_read_page_by_page_while_others_come_and_go() -> None:
    things = [Thing(name=name) for name in "hbdfj"]
    seen, after = names_of("limit=2", things)
    assert seen == ["b", "d"]
    things = [Thing(name=name) for name in "abfghj"]  # d has gone, a and g have come
    more, after = names_of(f"limit=3&after={after}", things)
    assert more == ["f", "g", "h"]
    assert names_of(f"limit=3&after={after}", things) == (["j"], None)


def test_a_list_is_read_by_offset() -> None:
    things = [Thing(name=f"{number:03}") for number in range(120)]
    assert names_of("", things)[0] == [f"{number:03}" for number in range(20)]
    assert names_of("limit=100&offset=110", things) == ([f"{n:03}" for n in range(110, 120)], None)
    assert names_of("offset=1000", things) == ([], None)


def test_the_next_page_has_an_address_with_the_same_filters() -> None:
    things = [Thing(name=name) for name in "abc"]
    request = request_of("limit=2&offset=0&name=%C3%A4")
    ((name, link),) = link_headers(request, page_of(things, page_request(request), key))
    assert name == "link"
    address, _, relation = link.partition(">; ")
    assert relation == 'rel="next"'
    assert parse_qs(urlsplit(address[1:]).query) == {
        "limit": ["2"], "name": ["ä"], "after": [cursor(("b",))],
    }  # fmt: skip
    assert not link_headers(request, page_of(things[:1], page_request(request), key))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=0", "limit is a number from 1 to 100"),
        ("limit=101", "limit is a number from 1 to 100"),
        ("limit=ten", "limit is a number from 1 to 100"),
        ("limit=%D9%A3", "limit is a number from 1 to 100"),
        ("offset=-1", "offset is a number from 0 to"),
        ("offset=99999999999999999999", "offset is a number from 0 to"),
        ("after=x&offset=1", "say one"),
        ("after=", "as an earlier page"),
        ("after=!", "after is what"),
        ("after=AAAAA", "after is what"),
        ("after=" + "W1tbW1" * 400, "after is what"),
        (f"after={cursor(())}", "after is what"),
        (f"after={cursor((1,))}", "after is of another list"),
    ],
)
def test_a_page_that_cannot_be_is_told(query: str, said: str) -> None:
    things = [Thing(name="a")]
    with pytest.raises(HttpError) as caught:
        page_of(things, page_request(request_of(query)), key)
    assert caught.value.status == 400
    assert said in caught.value.message or query == "after="
