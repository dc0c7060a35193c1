"""Locks of those who write: one alone, or several beside each other.

Whoever writes alone has one lock of the database for itself; who writes beside others shares that
one, and has locks of its own on what it is about: the patients and studies of objects that come.
So transactions of several nodes are under way at once, and their commits reach the disk together.

Rows that others follow by their numbers are a trap then: a number that was given first may be
committed last, and whoever reads in between goes past it.  So a transaction beside others first
locks the last number that was given: its own are above that.  Rows below the numbers that are
locked are settled.
"""

# ruff: noqa: S608  (statements are made of constants, values are bound)

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import psycopg

from isocenter.storage.database.database import FOLLOWED, TurnNeededError
from isocenter.storage.database.postgresql.pipeline import Answer, Pipeline

#: Whoever writes alone has it until the end of the transaction; who writes beside others shares it.
WRITE_LOCK: Final = 0x49534F43_0002
#: What is locked by name has keys of two parts, of which this is the first.
_NAME_LOCK: Final = 0x49534F44
#: Before the last number that was given.
_NUMBER_LOCK: Final = 0x49534F
_NUMBER_BITS: Final = 40

#: Who stands still while it writes, keeps others from writing: soon it is over for it.
WRITE_IDLE_SECONDS: Final = 10
CLOCK: Final = "extract(epoch FROM clock_timestamp())::float8"
#: Who it is, and the time, once it has its locks.
_TOLD: Final = f"pg_current_xact_id()::text, {CLOCK}"
TELL: Final = f"SELECT {_TOLD}".encode()
_IDLE: Final = f"set_config('idle_in_transaction_session_timeout', '{WRITE_IDLE_SECONDS}s', true)"
_LAST_GIVEN: Final = (
    "coalesce(pg_sequence_last_value("
    f"pg_get_serial_sequence('{FOLLOWED}', '{FOLLOWED}_pk')::regclass), 0)"
)
#: What comes, or is noted, beside others looks rows up by their keys: plans are made once, for
#: tables of any size, which are empty perhaps when the first object comes.
_PLAN_ONCE: Final = (
    "set_config('plan_cache_mode', 'force_generic_plan', true), "
    "set_config('enable_seqscan', 'off', true)"
)

#: Statements that begin a transaction; PostgreSQL works off a list of columns from left to right.
BEGIN_NOTING: Final = (b"BEGIN", f"SELECT {_PLAN_ONCE}, {_TOLD}".encode())
BEGIN_WRITING: Final = (
    b"BEGIN",
    f"SELECT {_IDLE}, pg_advisory_xact_lock({WRITE_LOCK}), {_TOLD}".encode(),
)
BEGIN_BESIDE: Final = (
    b"BEGIN",
    (
        f"SELECT {_IDLE}, {_PLAN_ONCE}, pg_advisory_xact_lock_shared({WRITE_LOCK}), "
        f"pg_advisory_xact_lock_shared({_NUMBER_LOCK << _NUMBER_BITS} + {_LAST_GIVEN})"
    ).encode(),
)
#: Two have written the same, or wait for each other: it is done again, one after the other.
CONFLICTS: Final = (
    TurnNeededError,
    psycopg.errors.UniqueViolation,
    psycopg.errors.ForeignKeyViolation,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)

_LOCK_NAMES: Final = (
    f"SELECT count(*), {_TOLD} FROM (SELECT pg_advisory_xact_lock({_NAME_LOCK}, key) "
    "FROM unnest($1::int4[]) AS key OFFSET 0) AS locked"
).encode()
_LAST_NUMBER: Final = f"SELECT coalesce(max({FOLLOWED}_pk), 0) FROM {FOLLOWED}".encode()
_UNSETTLED: Final = f"""
    SELECT min(((classid::bigint << 32) | objid::bigint) & {(1 << _NUMBER_BITS) - 1})
    FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted
      AND classid::bigint >> {_NUMBER_BITS - 32} = {_NUMBER_LOCK} AND datname = current_database()
""".encode()


def lock_names(pipeline: Pipeline, names: Iterable[str]) -> Answer:
    """Lock them until the end of the transaction; in one order, so that no two wait for each
    other.  The answer is that to `TELL`, from when they are locked."""
    return pipeline.send(_LOCK_NAMES, (sorted({_key(name) for name in names}),))


def _key(name: str) -> int:
    # Two names with one key wait for each other in vain, and that is all.
    digest = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=4).digest()
    return int.from_bytes(digest, "big", signed=True)


def settled_number(pipeline: Pipeline) -> int:
    """See `Database.settled_number`.

    Outside of a transaction, one after the other: whoever has ended since the first question is
    seen by whoever reads next.
    """
    (last,) = pipeline.begin(_LAST_NUMBER).fetchone()
    row = pipeline.send(_UNSETTLED).fetchone()
    return int(last) if row is None or row[0] is None else min(int(last), int(row[0]))
