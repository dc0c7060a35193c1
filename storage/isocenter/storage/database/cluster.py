"""Nodes of an archive, leases, and shared documents in the database."""

# ruff: noqa: S608  (statements are made of constants, values are bound)

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from isocenter.services.cluster.fence import Fence
from isocenter.services.cluster.member import (
    ALIVE_SECONDS,
    LeftBehindError,
    Member,
    MemberState,
    NameTakenError,
    NodeIdentity,
)
from isocenter.services.cluster.ports import Document
from isocenter.services.cluster.worker_names import NODE_MARK
from isocenter.services.errors import StorageError
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import CLOCK
from isocenter.storage.database.leases import DUTIES, release_claims_of
from isocenter.storage.database.sqlite.schema import LATEST_VERSION

#: A step that this program does not know, and does not go on with.
_STEP_TOO_FAR: Final = (
    "SELECT version FROM schema_version WHERE version > :knows AND is_expansion = 0"
)
_JOIN: Final = f"""
    INSERT INTO cluster_node (name, place, address, version, knows, state, started_at, seen_at)
    VALUES (:name, :place, :address, :version, :knows, 'up', {CLOCK}, {CLOCK})
    ON CONFLICT (name) DO UPDATE SET
        place = excluded.place, address = excluded.address, version = excluded.version,
        knows = excluded.knows,
        state = excluded.state, started_at = excluded.started_at, seen_at = excluded.seen_at
"""
#: One process of a node may have said that it ends while others go on; who was lost is back.
_BEAT: Final = f"""
    UPDATE cluster_node SET
        seen_at = {CLOCK}, clock_offset = :own_clock - {CLOCK}, answer_seconds = :answer,
        state = CASE
            WHEN :ends = 1 THEN 'draining' WHEN state IN ('stopped', 'lost') THEN 'up' ELSE state
        END
    WHERE name = :name AND place = :place AND NOT EXISTS ({_STEP_TOO_FAR}) RETURNING state
"""
_LIST: Final = f"""
    SELECT name, state, address, version, started_at, {CLOCK} - seen_at, clock_offset,
        answer_seconds
    FROM cluster_node ORDER BY name
"""
_DUTIES: Final = f"SELECT claimed_by, name FROM duty WHERE claimed_until > {CLOCK} ORDER BY name"


class DatabaseMembers:
    """See `isocenter.services.cluster.ports.Members`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def join(self, node: NodeIdentity) -> None:
        """See `Members.join`."""
        await self._database.write(_join, node)

    async def free_claims(self, node: NodeIdentity) -> None:
        """See `Members.free_claims`."""
        await self._database.write(_free_claims, node)

    async def beat(
        self, node: NodeIdentity, *, ends: bool, own_clock: float, answer_seconds: float
    ) -> MemberState | None:
        """See `Members.beat`."""
        values = {
            "name": node.name,
            "place": node.place,
            "ends": int(ends),
            "own_clock": own_clock,
            "answer": answer_seconds,
            "knows": LATEST_VERSION,
        }
        state = await self._database.note(_first_value, _BEAT, values)
        return None if state is None else MemberState(state)

    async def leave(self, node: NodeIdentity) -> None:
        """See `Members.leave`."""
        await self._database.write(
            _execute,
            "UPDATE cluster_node SET state = 'stopped' WHERE name = :name AND place = :place",
            {"name": node.name, "place": node.place},
        )

    async def list(self) -> Sequence[Member]:
        """See `Members.list`."""
        return await self._database.read(_list)

    async def drain(self, name: str) -> bool:
        """See `Members.drain`."""
        return await self._database.write(_drain, name)

    async def give_up_lost(self) -> Sequence[str]:
        """See `Members.give_up_lost`."""
        if not await self._database.read(_lost):
            return ()
        return await self._database.write(_give_up_lost)

    async def remove(self, name: str) -> bool:
        """See `Members.remove`."""
        return await self._database.write(_remove, name)


class DatabaseLeases:
    """See `isocenter.services.cluster.ports.Leases`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, duty: str, holder: str, seconds: float) -> Fence | None:
        """See `Leases.take`."""
        if await self._database.read(_is_taken, duty):
            return None
        number = await self._database.write(_take, duty, holder, seconds)
        return None if number is None else Fence(duty=duty, holder=holder, number=number)

    async def renew(self, fence: Fence, seconds: float) -> bool:
        """See `Leases.renew`."""
        return await self._database.note(_renew, fence, seconds)

    async def give_back(self, fence: Fence) -> None:
        """See `Leases.give_back`."""
        await self._database.write(_renew, fence, 0.0)


class DatabaseDocuments:
    """See `isocenter.services.cluster.ports.SharedDocuments`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> Document:
        """See `SharedDocuments.get`."""
        return await self._database.read(_get, name)

    async def versions(self) -> dict[str, int]:
        """See `SharedDocuments.versions`."""
        return await self._database.read(_versions)

    async def put(self, document: Document) -> bool:
        """See `SharedDocuments.put`."""
        values = {
            "name": document.name,
            "version": document.version,
            "content": document.content,
        }
        return await self._database.write(_put, values)


def is_held(connection: Connection, fence: Fence) -> bool:
    """Whether a lease is still that of its holder, at this moment of the database's clock."""
    row = connection.execute(
        "SELECT 1 FROM duty WHERE name = ? AND claimed_by = ? AND claims = ? "
        f"AND claimed_until > {CLOCK}",
        (fence.duty, fence.holder, fence.number),
    ).fetchone()
    return row is not None


def clock(connection: Connection) -> float:
    """The database's clock."""
    return float(connection.execute(f"SELECT {CLOCK}").fetchone()[0])


def _namesake(connection: Connection, node: NodeIdentity) -> tuple[str, float] | None:
    """Address and silence of another node that has the name, and lives."""
    row = connection.execute(
        f"SELECT address, {CLOCK} - seen_at FROM cluster_node WHERE name = ? AND place <> ? "
        f"AND state <> 'stopped' AND {CLOCK} - seen_at < ?",
        (node.name, node.place, ALIVE_SECONDS),
    ).fetchone()
    return None if row is None else (row[0], row[1])


def _free_claims(connection: Connection, node: NodeIdentity) -> None:
    if _namesake(connection, node) is None:
        release_claims_of(connection, node.name)


def _join(connection: Connection, node: NodeIdentity) -> None:
    other = _namesake(connection, node)
    if other is not None:
        address, silent = other
        raise NameTakenError(
            f"another node has the name {node.name!r}, and lives (at {address}, it was heard "
            f"{max(silent, 0.0):.0f} s ago); give this one another name (--node, cluster.node)"
        )
    step = connection.execute(f"{_STEP_TOO_FAR} LIMIT 1", {"knows": LATEST_VERSION}).fetchone()
    if step is not None:
        raise LeftBehindError(
            f"a newer Isocenter has migrated the database meanwhile (schema version {step[0]}, "
            f"this program knows {LATEST_VERSION}); use that version"
        )
    connection.execute(
        _JOIN,
        {
            "name": node.name,
            "place": node.place,
            "address": node.address,
            "version": node.version,
            "knows": LATEST_VERSION,
        },
    )


def _list(connection: Connection) -> list[Member]:
    found = []
    duties = defaultdict(list)
    for holder, duty in connection.execute(_DUTIES).fetchall():
        duties[holder.partition(NODE_MARK)[0]].append(duty)
    for name, state, address, version, started_at, silent, offset, answer in connection.execute(
        _LIST
    ).fetchall():
        is_lost = silent >= ALIVE_SECONDS and state != MemberState.STOPPED.value
        found.append(
            Member(
                name=name,
                state=MemberState.LOST if is_lost else MemberState(state),
                address=address,
                version=version,
                started_at=started_at,
                silent_seconds=max(silent, 0.0),
                clock_offset=offset,
                answer_seconds=answer,
                duties=tuple(duties[name]),
            )
        )
    return found


def _drain(connection: Connection, name: str) -> bool:
    changed = connection.execute(
        "UPDATE cluster_node SET state = 'draining' WHERE name = ? AND state IN ('up', 'draining') "
        f"AND {CLOCK} - seen_at < ?",
        (name, ALIVE_SECONDS),
    )
    return bool(changed.rowcount)


def _lost(connection: Connection) -> list[str]:
    """Those of whom nobody has noted it yet."""
    rows = connection.execute(
        "SELECT name FROM cluster_node WHERE state IN ('up', 'draining') "
        f"AND {CLOCK} - seen_at >= ?",
        (ALIVE_SECONDS,),
    )
    return [name for (name,) in rows.fetchall()]


def _give_up_lost(connection: Connection) -> list[str]:
    names = _lost(connection)
    for name in names:
        release_claims_of(connection, name)
        connection.execute("UPDATE cluster_node SET state = 'lost' WHERE name = ?", (name,))
    return names


def _remove(connection: Connection, name: str) -> bool:
    found = [member for member in _list(connection) if member.name == name]
    if not found:
        return False
    if found[0].is_alive:
        raise StorageError(
            f"the node {name!r} lives (it was heard {found[0].silent_seconds:.0f} s ago); stop it "
            f"first: isocenter nodes drain {name}"
        )
    release_claims_of(connection, name)
    connection.execute("DELETE FROM cluster_node WHERE name = ?", (name,))
    return True


def _is_taken(connection: Connection, duty: str) -> bool:
    row = connection.execute(
        f"SELECT 1 FROM duty WHERE name = ? AND claimed_until > {CLOCK}", (duty,)
    ).fetchone()
    return row is not None


def _take(connection: Connection, duty: str, holder: str, seconds: float) -> int | None:
    connection.execute("INSERT INTO duty (name) VALUES (?) ON CONFLICT (name) DO NOTHING", (duty,))
    now = clock(connection)
    row = connection.execute(
        f"SELECT duty_pk FROM duty WHERE name = :name AND {DUTIES.is_free}",
        {"name": duty, "now": now},
    ).fetchone()
    if row is None:
        return None
    DUTIES.claim(connection, [row[0]], holder, now + seconds)
    (number,) = connection.execute(
        "UPDATE duty SET claims = claims + 1 WHERE duty_pk = ? RETURNING claims", (row[0],)
    ).fetchone()
    return int(number)


def _renew(connection: Connection, fence: Fence, seconds: float) -> bool:
    changed = connection.execute(
        f"UPDATE duty SET claimed_until = {CLOCK} + ? "
        f"WHERE name = ? AND claimed_by = ? AND claims = ? AND claimed_until > {CLOCK}",
        (seconds, fence.duty, fence.holder, fence.number),
    )
    return bool(changed.rowcount)


def _get(connection: Connection, name: str) -> Document:
    row = connection.execute(
        "SELECT version, content FROM shared_document WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        return Document(name=name, version=0)
    return Document(name=name, version=row[0], content=row[1])


def _versions(connection: Connection) -> dict[str, int]:
    rows = connection.execute("SELECT name, version FROM shared_document").fetchall()
    return dict(rows)


def _put(connection: Connection, values: dict[str, object]) -> bool:
    if values["version"] == 0:
        statement = (
            "INSERT INTO shared_document (name, version, content) VALUES (:name, 1, :content) "
            "ON CONFLICT (name) DO NOTHING"
        )
    else:
        statement = (
            "UPDATE shared_document SET version = version + 1, content = :content "
            "WHERE name = :name AND version = :version"
        )
    return bool(connection.execute(statement, values).rowcount)


def _first_value(connection: Connection, statement: str, values: dict[str, object]) -> str | None:
    row = connection.execute(statement, values).fetchone()
    return None if row is None else str(row[0])


def _execute(connection: Connection, statement: str, values: dict[str, object]) -> None:
    connection.execute(statement, values)
