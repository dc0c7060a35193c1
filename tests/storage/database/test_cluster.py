"""The contract of `Members`, `Leases` and `SharedDocuments`, on every database."""

from __future__ import annotations

import pytest

from isocenter.services.cluster.fence import HELD, Fence, LeaseLostError
from isocenter.services.cluster.member import ALIVE_SECONDS, MemberState, NodeIdentity
from isocenter.services.cluster.ports import Document
from isocenter.services.errors import StorageError
from isocenter.storage.database.cluster import (
    DatabaseDocuments,
    DatabaseLeases,
    DatabaseMembers,
)
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.fencing import FencedDatabase
from isocenter.storage.database.leases import DUTIES
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

ONE = NodeIdentity(name="one", place="p1", address="ISOCENTER@a:11112", version="1.0")
OTHER = NodeIdentity(name="other", place="p2")
LONG = 1e6


async def beat(
    members: DatabaseMembers, node: NodeIdentity, *, ends: bool = False
) -> MemberState | None:
    return await members.beat(node, ends=ends, own_clock=0.0, answer_seconds=0.25)


def silence(connection: Connection, name: str) -> None:
    """Nothing was heard of it for some time."""
    connection.execute(
        "UPDATE cluster_node SET seen_at = seen_at - ? WHERE name = ?", (ALIVE_SECONDS + 1, name)
    )


async def state_of(members: DatabaseMembers, name: str) -> MemberState:
    return next(member.state for member in await members.list() if member.name == name)


async def test_a_node_that_joined_is_seen_by_the_others() -> None:
    async with open_database() as database:
        members = DatabaseMembers(database)
        await members.join(OTHER)
        await members.join(ONE)
        assert await beat(members, ONE) is MemberState.UP
        one, other = await members.list()
        assert (one.name, one.state, one.address, one.version) == (
            "one", MemberState.UP, "ISOCENTER@a:11112", "1.0",
        )  # fmt: skip
        assert one.answer_seconds == 0.25
        assert one.clock_offset < -1e9  # its clock says that it is 1970
        assert 0 <= one.silent_seconds < ALIVE_SECONDS
        assert other.name == "other"


async def test_a_name_is_refused_while_another_node_of_that_name_lives() -> None:
    async with open_database() as database:
        members = DatabaseMembers(database)
        await members.join(ONE)
        twin = NodeIdentity(name="one", place="elsewhere")
        with pytest.raises(StorageError, match=r"another node has the name 'one', and lives"):
            await members.join(twin)
        await members.join(ONE)  # what has its data directory is the same node
        await database.write(silence, "one")
        await members.join(twin)
        assert await beat(members, ONE) is None


async def test_a_node_that_has_stopped_leaves_its_name() -> None:
    async with open_database() as database:
        members = DatabaseMembers(database)
        await members.join(ONE)
        await members.leave(ONE)
        assert await state_of(members, "one") is MemberState.STOPPED
        await members.join(NodeIdentity(name="one", place="elsewhere"))
        assert await state_of(members, "one") is MemberState.UP


async def test_one_process_that_ends_does_not_end_its_node() -> None:
    async with open_database() as database:
        members = DatabaseMembers(database)
        await members.join(ONE)
        await members.leave(ONE)
        assert await beat(members, ONE) is MemberState.UP
        await members.leave(ONE)
        assert await beat(members, ONE, ends=True) is MemberState.DRAINING


async def test_a_node_is_told_to_drain() -> None:
    async with open_database() as database:
        members = DatabaseMembers(database)
        await members.join(ONE)
        assert await members.drain("one")
        assert await beat(members, ONE) is MemberState.DRAINING
        assert not await members.drain("nobody")
        await database.write(silence, "one")
        assert await state_of(members, "one") is MemberState.LOST
        assert not await members.drain("one")


async def test_only_a_node_that_does_not_live_is_removed() -> None:
    async with open_database() as database:
        members, leases = DatabaseMembers(database), DatabaseLeases(database)
        await members.join(ONE)
        await members.join(OTHER)
        with pytest.raises(StorageError, match=r"lives .* isocenter nodes drain one"):
            await members.remove("one")
        await leases.take("sweep", "one/1", LONG)
        await leases.take("scrub", "one-more/1", LONG)
        await database.write(silence, "one")
        assert await members.remove("one")
        assert [member.name for member in await members.list()] == ["other"]
        # What it had is free, and what others have is not.
        assert await leases.take("sweep", "other/1", LONG)
        assert await leases.take("scrub", "other/1", LONG) is None
        assert not await members.remove("one")


async def test_a_start_frees_what_its_own_data_directory_had_claimed() -> None:
    async with open_database() as database:
        members, leases = DatabaseMembers(database), DatabaseLeases(database)
        await members.join(ONE)
        await leases.take("sweep", "one/1", LONG)
        await members.free_claims(NodeIdentity(name="one", place="of a command"))
        await members.free_claims(OTHER)
        assert await leases.take("sweep", "other/1", LONG) is None
        await members.free_claims(ONE)
        assert await leases.take("sweep", "other/1", LONG) is not None


async def test_what_a_lost_node_had_claimed_is_freed_once() -> None:
    async with open_database() as database:
        members, leases = DatabaseMembers(database), DatabaseLeases(database)
        await members.join(ONE)
        await members.join(OTHER)
        await leases.take("sweep", "one/1", LONG)
        assert await members.give_up_lost() == ()
        await database.write(silence, "one")
        assert await members.give_up_lost() == ["one"]
        assert await members.give_up_lost() == ()
        assert await leases.take("sweep", "other/1", LONG) is not None
        assert await state_of(members, "one") is MemberState.LOST
        assert await beat(members, ONE) is MemberState.UP  # it stood still, and is back


async def test_one_at_a_time_has_a_duty() -> None:
    async with open_database() as database:
        leases = DatabaseLeases(database)
        first = await leases.take("sweep", "a", LONG)
        assert first == Fence(duty="sweep", holder="a", number=1)
        assert await leases.take("sweep", "b", LONG) is None
        assert await leases.take("sweep", "a", LONG) is None
        assert (await leases.take("scrub", "b", LONG)) is not None
        await leases.give_back(first)
        second = await leases.take("sweep", "b", LONG)
        assert second is not None
        assert second.number > first.number
        assert not await leases.renew(first, LONG)


async def test_a_lease_that_has_run_out_cannot_be_renewed() -> None:
    async with open_database() as database:
        leases = DatabaseLeases(database)
        fence = await leases.take("sweep", "a", -1.0)
        assert fence is not None
        assert not await leases.renew(fence, LONG)
        other = await leases.take("sweep", "b", LONG)
        assert other is not None
        assert await leases.renew(other, LONG)


async def note(database: Database, name: str) -> None:
    assert await DatabaseDocuments(database).put(Document(name=name, version=0, content="x"))


async def test_nothing_is_written_under_a_lease_that_is_lost() -> None:
    async with open_database() as database:
        leases, fenced = DatabaseLeases(database), FencedDatabase(database)
        fence = await leases.take("sweep", "a", LONG)
        assert fence is not None
        token = HELD.set((fence,))
        try:
            await note(fenced, "before")
            await database.write(DUTIES.release_all)
            with pytest.raises(LeaseLostError, match="'sweep' is not ours any more"):
                await note(fenced, "after")
            with pytest.raises(LeaseLostError):
                await fenced.write_after(lambda: "after", _insert)
            assert await fenced.write_after(lambda: None, _insert) is None
        finally:
            HELD.reset(token)
        await note(fenced, "who holds nothing needs nothing")
        assert sorted(await DatabaseDocuments(database).versions()) == [
            "before", "who holds nothing needs nothing",
        ]  # fmt: skip


def _insert(connection: Connection, name: str) -> None:
    connection.execute("INSERT INTO shared_document VALUES (?, 1, '')", (name,))


async def test_leases_say_nothing_of_a_spare_database() -> None:
    async with open_database() as database:
        fence = await DatabaseLeases(database).take("sweep", "a", LONG)
        assert fence is not None
        token = HELD.set((fence,))
        try:
            async with FencedDatabase(database).spare() as spare:
                await spare.write(_insert, "one")
                await spare.note(_insert, "other")
        finally:
            HELD.reset(token)


async def test_what_is_written_under_a_lease_is_there() -> None:
    async with open_database() as database:
        fence = await DatabaseLeases(database).take("sweep", "a", LONG)
        assert fence is not None
        token = HELD.set((fence,))
        try:
            await FencedDatabase(database).write_after(lambda: "name", _insert)
        finally:
            HELD.reset(token)
        assert await DatabaseDocuments(database).versions() == {"name": 1}


async def test_a_document_is_changed_by_who_knows_what_it_says() -> None:
    async with open_database() as database:
        documents = DatabaseDocuments(database)
        nothing = await documents.get("users")
        assert nothing == Document(name="users", version=0)
        assert await documents.put(Document(name="users", version=0, content="a"))
        assert not await documents.put(Document(name="users", version=0, content="b"))
        found = await documents.get("users")
        assert found == Document(name="users", version=1, content="a")
        assert await documents.put(Document(name="users", version=1, content="c"))
        assert not await documents.put(Document(name="users", version=1, content="d"))
        assert await documents.get("users") == Document(name="users", version=2, content="c")
