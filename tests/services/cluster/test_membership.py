"""A node's own row, with a clock that jumps."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from isocenter.services.cluster.member import (
    LeftBehindError,
    Member,
    MemberState,
    NameTakenError,
    NodeIdentity,
)
from isocenter.services.cluster.membership import BEAT_SECONDS, Membership
from isocenter.services.errors import StorageError

NODE = NodeIdentity(name="one", place="p")


class MemoryMembers:
    """See `isocenter.services.cluster.ports.Members`; of one node.

    Attributes:
        is_away: nobody answers.
        refusal: why it may not be one of them.
        failing_joins: so many fail.
    """

    def __init__(self) -> None:
        self.state: MemberState | None = None
        self.beats = self.joins = self.failing_joins = 0
        self.is_away = False
        self.refusal: type[StorageError] | None = None

    async def join(self, node: NodeIdentity) -> None:
        await trio.lowlevel.checkpoint()
        self.joins += 1
        if self.joins <= self.failing_joins:
            raise StorageError("the database does not answer")
        if self.refusal is not None:
            raise self.refusal("it may not")
        self.state = MemberState.UP

    async def free_claims(self, node: NodeIdentity) -> None:
        raise NotImplementedError

    async def beat(
        self, node: NodeIdentity, *, ends: bool, own_clock: float, answer_seconds: float
    ) -> MemberState | None:
        await trio.lowlevel.checkpoint()
        if self.is_away:
            raise StorageError("the database does not answer")
        self.beats += 1
        return self.state

    async def leave(self, node: NodeIdentity) -> None:
        await trio.lowlevel.checkpoint()
        self.state = MemberState.STOPPED

    async def list(self) -> Sequence[Member]:
        raise NotImplementedError

    async def drain(self, name: str) -> bool:
        raise NotImplementedError

    async def give_up_lost(self) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        return ()

    async def remove(self, name: str) -> bool:
        raise NotImplementedError


async def test_it_gives_signs_of_life_until_it_says_that_it_ends(autojump_clock: MockClock) -> None:
    members = MemoryMembers()
    await members.join(NODE)
    with trio.move_on_after(10.5 * BEAT_SECONDS):
        await Membership(members, NODE, on_drain=pytest.fail).run()
    assert members.beats == 11
    assert members.state is MemberState.STOPPED


async def test_a_process_that_is_not_the_last_says_nothing_of_the_node(
    autojump_clock: MockClock,
) -> None:
    members = MemoryMembers()
    await members.join(NODE)
    others = [True, False]
    for _ in range(2):
        with trio.move_on_after(1.5 * BEAT_SECONDS):
            await Membership(
                members, NODE, on_drain=pytest.fail, is_last=lambda: not others[0]
            ).run()
        assert members.state is (MemberState.UP if others.pop(0) else MemberState.STOPPED)


async def test_it_is_told_once_that_it_is_to_end(autojump_clock: MockClock) -> None:
    members = MemoryMembers()
    members.state = MemberState.DRAINING
    told: list[float] = []
    with trio.move_on_after(5.5 * BEAT_SECONDS):
        await Membership(members, NODE, on_drain=lambda: told.append(trio.current_time())).run()
    assert len(told) == 1


async def test_it_goes_on_while_the_database_is_away(autojump_clock: MockClock) -> None:
    members = MemoryMembers()
    members.is_away = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Membership(members, NODE, on_drain=pytest.fail).run)
        await trio.sleep(5 * BEAT_SECONDS)
        members.is_away, members.state = False, MemberState.UP
        await trio.sleep(5 * BEAT_SECONDS)
        assert members.beats >= 4
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("refusal", [None, NameTakenError, LeftBehindError])
async def test_a_node_that_was_removed_while_it_lived(
    autojump_clock: MockClock, refusal: type[StorageError] | None
) -> None:
    members = MemoryMembers()
    members.refusal = refusal
    told: list[str] = []
    with trio.move_on_after(1.5 * BEAT_SECONDS):
        await Membership(members, NODE, on_drain=lambda: told.append("end")).run()
    assert told == ([] if refusal is None else ["end"])


async def test_a_node_that_was_removed_tries_again_while_the_database_is_away(
    autojump_clock: MockClock,
) -> None:
    members = MemoryMembers()
    members.failing_joins = 2
    with trio.move_on_after(3.5 * BEAT_SECONDS):
        await Membership(members, NODE, on_drain=pytest.fail).run()
    assert members.joins == 3


async def test_it_outlives_what_nobody_thought_of(autojump_clock: MockClock) -> None:
    class Broken(MemoryMembers):
        async def beat(
            self, node: NodeIdentity, *, ends: bool, own_clock: float, answer_seconds: float
        ) -> MemberState | None:
            await trio.lowlevel.checkpoint()
            self.beats += 1
            raise ZeroDivisionError

    members = Broken()
    with trio.move_on_after(1.5 * BEAT_SECONDS):
        await Membership(members, NODE, on_drain=pytest.fail).run()
    assert members.beats == 2
