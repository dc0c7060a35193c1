"""Values that PostgreSQL has no place for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.storage.database.postgresql.opening import Place, connect
from isocenter.storage.database.postgresql.values import escape, unescape
from support.postgresql import Server

TEXTS = st.text(alphabet="\0\1\2ab", max_size=8)


@pytest.fixture(scope="module")
def connection(postgresql_server: Server) -> Iterator[psycopg.Connection[Any]]:
    with connect(Place(postgresql_server.conninfo())) as opened:
        yield opened


@given(TEXTS)
def test_any_text_comes_back(text: str) -> None:
    assert unescape(escape(text)) == text
    assert "\0" not in escape(text)


@given(TEXTS, TEXTS)
def test_texts_keep_their_order(one: str, other: str) -> None:
    assert (one < other) == (escape(one) < escape(other))


@pytest.mark.parametrize("value", ["a\0b\1c", "Müller", "", 2**62, -1, 0.1, b"\0\xff", None])
def test_values_come_back_as_they_went(connection: psycopg.Connection[Any], value: object) -> None:
    kinds = {str: "text", int: "bigint", float: "double precision", bytes: "bytea"}
    kind = kinds.get(type(value), "text")
    (found,) = connection.execute(f"SELECT %s::{kind}", (value,)).fetchone() or ("nothing",)
    assert found == value
    assert type(found) is type(value)


def test_truth_is_a_number_as_in_sqlite(connection: psycopg.Connection[Any]) -> None:
    row = connection.execute("SELECT 1 = 1, 1 = 2, %s + 1, sum(x) FROM (VALUES (1::bigint), (2)) "
                             "AS v (x)", (True,)).fetchone()  # fmt: skip
    assert row == (1, 0, 2, 3)
    assert row is not None
    assert {type(value) for value in row} == {int}


def test_lists_hold_any_text(connection: psycopg.Connection[Any]) -> None:
    texts = ["a\0b", "\1", 'x"y', "{}", "", "\\"]
    row = connection.execute("SELECT %s::text[]", (texts,)).fetchone()
    assert row is not None
    unnested = connection.execute("SELECT unnest(%s::text[])", (texts,)).fetchall()
    assert [text for (text,) in unnested] == texts
