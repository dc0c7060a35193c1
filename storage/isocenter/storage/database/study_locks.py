"""Locks of studies in the database."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

from isocenter.services.archive.locks.lock import LockCount, LockKind, StudyLock
from isocenter.services.workflow.forwarding.ports import Clock
from isocenter.storage.database.clock import clock_of
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import CLOCK, larger
from isocenter.storage.database.rows import named_rows
from isocenter.storage.database.text import replace_surrogates

#: For so long a migration that waits goes before others; it asks again long before.
_WAITING_SECONDS: Final = 2.0
_TEXT_LENGTH: Final = 500

_TAKE: Final = """
    INSERT INTO study_lock (study_instance_uid, lock_id, kind, holder, reason, process, since,
                            until)
    VALUES (:study, :id, :kind, :holder, :reason, :process, :now, :until)
    ON CONFLICT (study_instance_uid) DO UPDATE SET lock_id = :id, kind = :kind, holder = :holder,
        reason = :reason, process = :process, since = :now, until = :until
    WHERE study_lock.until <= :now
"""
_LOCKS: Final = """
    SELECT study_instance_uid, lock_id, kind, holder, reason, process, since, until
    FROM study_lock WHERE until > :now
"""
_AWAITED: Final = """
    SELECT study_instance_uid, process, until FROM study_lock_waiting
    WHERE study_instance_uid = :study AND process <> :process AND until > :now
"""
_WAIT: Final = """
    INSERT INTO study_lock_waiting (study_instance_uid, process, until)
    VALUES (:study, :process, :waits)
    ON CONFLICT (study_instance_uid) DO UPDATE SET process = :process, until = :waits
    WHERE study_lock_waiting.until <= :now OR study_lock_waiting.process = :process
"""
_READERS: Final = """
    SELECT p.process, a.readers FROM reading_process p
    LEFT JOIN study_lock_answer a ON a.process = p.process AND a.lock_id = :id
    WHERE p.process <> :process AND p.until > :now AND (a.readers IS NULL OR a.readers <> '')
    ORDER BY p.process
"""
_ANNOUNCE: Final = """
    INSERT INTO reading_process (process, until) VALUES (:process, :until)
    ON CONFLICT (process) DO UPDATE SET until = :until
"""
_ANSWER: Final = """
    INSERT INTO study_lock_answer (lock_id, process, readers) VALUES (:id, :process, :readers)
    ON CONFLICT (lock_id, process) DO UPDATE SET readers = :readers
"""
_TABLES: Final = ("study_lock", "study_lock_answer", "study_lock_waiting", "reading_process")


_HELD: Final = "SELECT kind, since FROM study_lock WHERE lock_id = :id"
#: What a lock takes the place of.
_EXPIRED: Final = "SELECT kind FROM study_lock WHERE study_instance_uid = :study AND until <= :now"
_ACTIVE: Final = "SELECT kind, count(*) FROM study_lock WHERE until > :now GROUP BY kind"
_COUNTS: Final = """
    SELECT kind, released, forced, expired, refused, waited, waited_seconds, held_seconds,
        longest_seconds
    FROM study_lock_count
"""
_COUNT: Final = f"""
    INSERT INTO study_lock_count (kind, released, forced, expired, refused, waited, waited_seconds,
        held_seconds, longest_seconds)
    VALUES (:kind, :released, :forced, :expired, :refused, :waited, :waited_seconds, :held, :held)
    ON CONFLICT (kind) DO UPDATE SET
        released = study_lock_count.released + excluded.released,
        forced = study_lock_count.forced + excluded.forced,
        expired = study_lock_count.expired + excluded.expired,
        refused = study_lock_count.refused + excluded.refused,
        waited = study_lock_count.waited + excluded.waited,
        waited_seconds = study_lock_count.waited_seconds + excluded.waited_seconds,
        held_seconds = study_lock_count.held_seconds + excluded.held_seconds,
        longest_seconds =
            {larger("study_lock_count.longest_seconds", "excluded.longest_seconds")}
"""


class DatabaseStudyLocks:
    """See `isocenter.services.archive.locks.ports.LockBook`.

    Args:
        now: seconds since 1970; None: the clock of the database.
    """

    def __init__(self, database: Database, *, now: Clock | None = None) -> None:
        self._database = database
        self._now = clock_of(now)

    async def announce(self, process: str, seconds: float) -> None:
        """See `LockBook.announce`."""

        def announce(connection: Connection) -> None:
            values = {"process": process, "until": self._now(connection) + seconds}
            connection.execute(_ANNOUNCE, values)

        await self._database.write(announce)

    async def withdraw(self, process: str) -> None:
        """See `LockBook.withdraw`."""
        await self._database.write(_withdraw, process)

    async def take(self, lock: StudyLock, seconds: float) -> StudyLock | None:
        """See `LockBook.take`."""
        return await self._database.write(self._take, lock, seconds)

    def _take(self, connection: Connection, lock: StudyLock, seconds: float) -> StudyLock | None:
        now = self._now(connection)
        values = {
            "study": replace_surrogates(lock.study_instance_uid),
            "id": lock.lock_id,
            "kind": lock.kind.value,
            "holder": _short(lock.holder),
            "reason": _short(lock.reason),
            "process": lock.process,
            "now": now,
            "until": now + seconds,
            "waits": now + _WAITING_SECONDS,
        }
        awaited = list(named_rows(connection.execute(_AWAITED, values)))
        if awaited:
            return StudyLock(
                study_instance_uid=lock.study_instance_uid,
                lock_id="",
                kind=LockKind.MIGRATION,
                holder="a migration that waits",
                reason="",
                process=awaited[0]["process"],
                since=now,
                until=awaited[0]["until"],
            )
        _clear_expired(connection, values)
        expired = connection.execute(_EXPIRED, values).fetchone()
        if expired is not None:
            _count(connection, expired[0], expired=1)
        if connection.execute(_TAKE, values).rowcount:
            connection.execute(
                "DELETE FROM study_lock_waiting WHERE study_instance_uid = :study", values
            )
            return None
        if lock.kind is LockKind.MIGRATION:
            connection.execute(_WAIT, values)
        (known,) = _locks(connection, f"{_LOCKS} AND study_instance_uid = :study", values)
        return known

    async def readers(self, lock: StudyLock) -> Mapping[str, str]:
        """See `LockBook.readers`."""

        def readers(connection: Connection) -> dict[str, str]:
            now = self._now(connection)
            values = {"id": lock.lock_id, "process": lock.process, "now": now}
            rows = connection.execute(_READERS, values).fetchall()
            return {process: readers or "" for process, readers in rows}

        return await self._database.read(readers)

    async def renew(self, process: str, seconds: float) -> Collection[str]:
        """See `LockBook.renew`."""

        def renew(connection: Connection) -> set[str]:
            now = self._now(connection)
            values = {"process": process, "now": now, "until": now + seconds}
            rows = connection.execute(
                "UPDATE study_lock SET until = :until WHERE process = :process AND until > :now "
                "RETURNING lock_id",
                values,
            )
            return {row[0] for row in rows.fetchall()}

        return await self._database.write(renew)

    async def release(self, lock: StudyLock, *, waited: float = 0.0) -> None:
        """See `LockBook.release`."""

        def release(connection: Connection) -> None:
            now = self._now(connection)
            row = connection.execute(_HELD, {"id": lock.lock_id}).fetchone()
            if row is not None:
                kind, since = row
                _count(
                    connection, kind, released=1, waited=int(waited > 0), waited_seconds=waited,
                    held=max(0.0, now - since),
                )  # fmt: skip
            _release(connection, lock.lock_id)

        await self._database.write(release)

    async def note_refused(self, kind: LockKind) -> None:
        """See `LockBook.note_refused`."""
        await self._database.write(partial(_count, kind=kind.value, refused=1))

    async def counts(self) -> Sequence[LockCount]:
        """See `LockBook.counts`."""

        def counts(connection: Connection) -> list[LockCount]:
            now = self._now(connection)
            active = dict(connection.execute(_ACTIVE, {"now": now}).fetchall())
            found = {row["kind"]: row for row in named_rows(connection.execute(_COUNTS))}
            return [
                LockCount(
                    **{**found.get(kind.value, {}), "kind": kind},
                    active=active.get(kind.value, 0),
                )
                for kind in LockKind
            ]

        return await self._database.read(counts)

    async def others(self, process: str) -> Sequence[StudyLock]:
        """See `LockBook.others`."""
        return await self._database.read(
            self._found, f"{_LOCKS} AND process <> :process", {"process": process}
        )

    def _found(
        self, connection: Connection, statement: str, values: Mapping[str, Any]
    ) -> list[StudyLock]:
        return _locks(connection, statement, {**values, "now": self._now(connection)})

    async def answer(self, process: str, readers: Mapping[str, str]) -> None:
        """See `LockBook.answer`."""
        rows = [
            {"id": lock_id, "process": process, "readers": _short(text)}
            for lock_id, text in readers.items()
        ]
        await self._database.write(partial(_answer, rows=rows))

    async def all(self) -> Sequence[StudyLock]:
        """See `LockBook.all`."""
        return await self._database.read(
            self._found, f"{_LOCKS} ORDER BY since, study_instance_uid", {}
        )

    async def force(self, study_instance_uid: str) -> StudyLock | None:
        """See `LockBook.force`."""

        def force(connection: Connection) -> StudyLock | None:
            values = {"study": replace_surrogates(study_instance_uid)}
            found = self._found(connection, f"{_LOCKS} AND study_instance_uid = :study", values)
            for lock in found:
                _count(connection, lock.kind.value, forced=1)
                _release(connection, lock.lock_id)
            return found[0] if found else None

        return await self._database.write(force)


def is_locked(connection: Connection, lock_id: str) -> bool:
    """Whether a lock still is that of whoever took it, at this moment of the database's clock."""
    row = connection.execute(
        f"SELECT 1 FROM study_lock WHERE lock_id = ? AND until > {CLOCK}",
        (lock_id,),
    ).fetchone()
    return row is not None


def release_study_locks(connection: Connection) -> None:
    """No process works on the database: what earlier ones had locked is free."""
    for table in _TABLES:
        connection.execute(f"DELETE FROM {table}")


def _locks(connection: Connection, statement: str, values: Mapping[str, Any]) -> list[StudyLock]:
    rows = list(named_rows(connection.execute(statement, values)))
    readers: dict[str, list[str]] = {}
    if rows:
        for lock_id, text in connection.execute(
            "SELECT lock_id, readers FROM study_lock_answer WHERE readers <> ''"
        ).fetchall():
            readers.setdefault(lock_id, []).append(text)
    return [
        StudyLock(
            kind=LockKind(row.pop("kind")), readers=tuple(readers.get(row["lock_id"], ())), **row
        )
        for row in rows
    ]


def _count(
    connection: Connection,
    kind: str,
    *,
    released: int = 0,
    forced: int = 0,
    expired: int = 0,
    refused: int = 0,
    waited: int = 0,
    waited_seconds: float = 0.0,
    held: float = 0.0,
) -> None:
    """Add to what is counted of a kind."""
    connection.execute(
        _COUNT,
        {
            "kind": kind,
            "released": released,
            "forced": forced,
            "expired": expired,
            "refused": refused,
            "waited": waited,
            "waited_seconds": waited_seconds,
            "held": held,
        },
    )


def _answer(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    connection.executemany(_ANSWER, rows)


def _release(connection: Connection, lock_id: str) -> None:
    connection.execute("DELETE FROM study_lock WHERE lock_id = ?", (lock_id,))
    connection.execute("DELETE FROM study_lock_answer WHERE lock_id = ?", (lock_id,))


def _withdraw(connection: Connection, process: str) -> None:
    for table in reversed(_TABLES):
        connection.execute(f"DELETE FROM {table} WHERE process = ?", (process,))


def _clear_expired(connection: Connection, values: Mapping[str, Any]) -> None:
    """What nobody looks at any more."""
    connection.execute("DELETE FROM study_lock_waiting WHERE until <= :now", values)
    connection.execute("DELETE FROM reading_process WHERE until <= :now", values)
    connection.execute(
        "DELETE FROM study_lock_answer WHERE lock_id NOT IN (SELECT lock_id FROM study_lock)"
    )


def _short(text: str) -> str:
    return replace_surrogates(text)[:_TEXT_LENGTH]
