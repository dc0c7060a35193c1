"""Statements that are sent together: who hears their answers, and what failed."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from isocenter.storage.database.postgresql.opening import Place, connect
from isocenter.storage.database.postgresql.pipeline import Pipeline
from support.postgresql import Server

MAKE = b"CREATE TEMPORARY TABLE t (n bigint PRIMARY KEY)"
ADD = b"INSERT INTO t VALUES ($1)"
COUNT = b"SELECT count(*) FROM t"


@pytest.fixture(scope="module")
def place(postgresql_server: Server) -> Place:
    return Place(postgresql_server.conninfo())


@pytest.fixture
def pipeline(place: Place) -> Iterator[Pipeline]:
    opened = Pipeline(connect(place), lambda: connect(place))
    yield opened
    opened.close()


def test_answers_are_those_of_their_statements(pipeline: Pipeline) -> None:
    first = pipeline.send(b"SELECT $1::bigint AS a, $2::text AS b", (1, "x"))
    other = pipeline.send(b"SELECT n FROM generate_series(1, 3) AS n")
    assert [list(column) for column in first.description] == [["a"], ["b"]]
    assert list(other) == [(1,), (2,), (3,)]
    assert other.fetchone() is None
    assert first.fetchall() == [(1, "x")]


def test_nothing_is_done_after_what_failed(pipeline: Pipeline) -> None:
    pipeline.send(MAKE).rowcount  # noqa: B018
    pipeline.begin(b"BEGIN", b"SELECT 1")
    pipeline.send(ADD, (1,))
    pipeline.send(ADD, (1,))
    after = pipeline.send(ADD, (2,))
    with pytest.raises(psycopg.errors.UniqueViolation):
        pipeline.receive()
    assert not after.rowcount
    pipeline.send(b"ROLLBACK")
    assert pipeline.send(COUNT).fetchone() == (0,)


def test_what_failed_first_is_the_cause(pipeline: Pipeline) -> None:
    pipeline.send(b"SELECT 1 / $1::bigint", (0,))
    answer = pipeline.send(b"SELECT nothing")
    with pytest.raises(psycopg.errors.DivisionByZero):
        answer.fetchone()
    # It was to be kept, and was not: it is made anew.
    with pytest.raises(psycopg.errors.UndefinedColumn):
        pipeline.send(b"SELECT nothing").fetchone()
    assert pipeline.send(b"SELECT 1 / $1::bigint", (1,)).fetchone() == (1,)


def test_values_of_other_types_are_another_statement(pipeline: Pipeline) -> None:
    text = b"SELECT pg_typeof(coalesce($1, 1.5))::text"
    assert pipeline.send(text, (1,)).fetchone() == ("numeric",)
    assert pipeline.send(text, (1.5,)).fetchone() == ("double precision",)


def test_more_than_fit_into_any_buffer(pipeline: Pipeline) -> None:
    pipeline.send(MAKE)
    large = "x" * 1_000_000
    echoes = [pipeline.send(b"SELECT $1::text", (large,)) for _ in range(3)]
    for number in range(1_000):
        pipeline.send(ADD, (number,))
    assert pipeline.send(COUNT).fetchone() == (1_000,)
    assert [echo.fetchone() == (large,) for echo in echoes] == [True] * 3


def test_more_statements_than_are_kept(pipeline: Pipeline) -> None:
    for number in range(1_100):
        answer = pipeline.send(f"SELECT {number}::bigint".encode())
    assert answer.fetchone() == (1_099,)
    (kept,) = pipeline.send(b"SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert kept <= 500


def _end(place: Place, pipeline: Pipeline) -> None:
    """The server ends its side, and is through with that."""
    pid = pipeline.connection.info.backend_pid
    with connect(place) as other:
        other.execute("SELECT pg_terminate_backend(%s::int, 10000::bigint)", (pid,))


def test_a_connection_that_was_lost_is_made_anew(pipeline: Pipeline, place: Place) -> None:
    _end(place, pipeline)
    pipeline.begin(b"BEGIN", b"SELECT 1")
    assert pipeline.send(b"SELECT $1::text", ("x",)).fetchone() == ("x",)


def test_what_nobody_has_answered_is_sent_again(pipeline: Pipeline, place: Place) -> None:
    began = pipeline.begin(b"BEGIN", b"SELECT 1::bigint")
    answer = pipeline.send(b"SELECT $1::text", ("x",))
    _end(place, pipeline)
    assert answer.fetchone() == ("x",)
    assert began.fetchone() == (1,)


def test_what_was_answered_is_not_sent_again(pipeline: Pipeline, place: Place) -> None:
    assert pipeline.begin(b"BEGIN", b"SELECT 1::bigint").fetchone() == (1,)
    answer = pipeline.send(b"SELECT $1::text", ("x",))
    _end(place, pipeline)
    with pytest.raises(psycopg.OperationalError):
        answer.fetchone()
    assert pipeline.begin(b"BEGIN", b"SELECT 2::bigint").fetchone() == (2,)


def test_who_leaves_has_ended_its_transaction(pipeline: Pipeline) -> None:
    which = b"SELECT pg_current_xact_id()::text"
    first = pipeline.begin(b"BEGIN", which).fetchone()
    assert pipeline.send(which).fetchone() == first
    pipeline.leave(b"COMMIT")
    assert pipeline.begin(b"BEGIN", which).fetchone() != first


def test_a_transaction_whose_end_was_interrupted_hinders_nobody(pipeline: Pipeline) -> None:
    pipeline.begin(b"BEGIN", b"SELECT 1::bigint").fetchone()
    pipeline.leave(b"SELECT 1 / 0")  # fails in place of a COMMIT
    began = pipeline.begin(b"BEGIN", b"SELECT 2::bigint")
    answer = pipeline.send(b"SELECT $1::text", ("x",))
    assert (began.fetchone(), answer.fetchone()) == ((2,), ("x",))
    assert pipeline.connection.info.transaction_status == TransactionStatus.INTRANS


def test_what_follows_a_failure_begins_nothing_anew(pipeline: Pipeline) -> None:
    pipeline.begin(b"BEGIN", b"SELECT 1")
    with pytest.raises(psycopg.errors.DivisionByZero):
        pipeline.send(b"SELECT 1 / 0").fetchone()
    for _ in range(2):
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            pipeline.send(b"SELECT 2").fetchone()
