"""The pool of associations that we requested."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest
import trio
import trio.testing

from isocenter.engine.dimse.message_codec import response_to
from isocenter.engine.errors import AssociationError
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.pool import AssociationPool, AssociationTaken, Proposal
from isocenter.services.errors import ConnectError
from isocenter.services.notices import (
    AssociationEnded,
    AssociationEstablished,
    AssociationOutcome,
    Notice,
    Notices,
)
from isocenter.services.service_classes.client import ClientAssociation, open_association
from support.ports import free_port
from support.serving import Scripted, port_of, serving

PATIENCE = 60.0
CT = "1.2.840.10008.5.1.4.1.1.2"
ECHO = (VERIFICATION, [EXPLICIT_VR_LITTLE_ENDIAN])
STORE = (CT, [EXPLICIT_VR_LITTLE_ENDIAN])


@dataclass
class Pool:
    """A pool, a peer, and what both are told of."""

    pool: AssociationPool[ClientAssociation]
    peer: Peer
    at_peer: list[Notice]
    here: list[Notice]
    #: Operations, as the peer saw them.
    asked: list[Operation]

    def use(
        self, *contexts: tuple[str, list[str]], window: int = 1
    ) -> AbstractAsyncContextManager[ClientAssociation]:
        proposal = Proposal(self.peer, contexts, operations_window=window)
        return self.pool.association(proposal, partial(open_association, self.peer, contexts))

    def told(self, kind: type[Notice]) -> int:
        return sum(isinstance(notice, kind) for notice in self.at_peer)

    async def until(self, kind: type[Notice], count: int) -> None:
        with trio.fail_after(PATIENCE):
            while self.told(kind) < count:
                await trio.testing.wait_all_tasks_blocked(0.01)

    @property
    def reused(self) -> list[bool]:
        return [n.is_reused for n in self.here if isinstance(n, AssociationTaken)]


@asynccontextmanager
async def pooling(idle_seconds: float = 60.0) -> AsyncIterator[Pool]:
    at_peer: list[Notice] = []
    here: list[Notice] = []
    asked: list[Operation] = []

    async def perform(operation: Operation) -> None:
        asked.append(operation)
        await operation.respond(response_to(operation.request, 0))

    async with (
        serving(Scripted([VERIFICATION, CT], perform), notices=Notices(at_peer.append)) as server,
        trio.open_nursery() as nursery,
    ):
        pool = AssociationPool[ClientAssociation](idle_seconds, Notices(here.append))
        nursery.start_soon(pool.run)
        await trio.testing.wait_all_tasks_blocked()
        peer = Peer("PEER", "127.0.0.1", port_of(server))
        yield Pool(pool, peer, at_peer, here, asked)
        nursery.cancel_scope.cancel()


async def test_what_one_use_leaves_is_there_for_the_next() -> None:
    async with pooling() as world:
        async with world.use(ECHO, STORE, window=4) as first:
            pass
        # Fewer contexts and a smaller window are no reason for another one.
        async with world.use(STORE) as second:
            assert second is first
        assert world.reused == [False, True]
    # When the server stops it is released, not aborted.
    await world.until(AssociationEnded, 1)
    (ended,) = [n for n in world.at_peer if isinstance(n, AssociationEnded)]
    assert ended.ending is AssociationOutcome.RELEASED
    assert world.told(AssociationEstablished) == 1


async def test_two_at_once_have_one_each_and_both_are_kept() -> None:
    async with pooling() as world:
        async with world.use(ECHO) as one, world.use(ECHO) as other:
            assert one is not other
        async with world.use(ECHO) as third, world.use(ECHO) as fourth:
            assert {id(third), id(fourth)} == {id(one), id(other)}
    assert world.reused == [False, False, True, True]


async def test_idle_ones_are_released_before_another_is_opened() -> None:
    """A peer may bear one at a time."""
    async with pooling() as world:
        async with world.use(ECHO):
            pass
        async with world.use(STORE) as association:
            assert not association.ended.is_set()
            await world.until(AssociationEnded, 1)
        assert world.reused == [False, False]
        await world.pool.release_idle(world.peer)
        await world.until(AssociationEnded, 2)
        async with world.use(STORE):
            pass
    assert world.reused == [False] * 3


async def test_what_is_left_in_the_middle_is_aborted() -> None:
    async with pooling() as world:
        with pytest.raises(KeyError):
            async with world.use(ECHO):
                raise KeyError
        with trio.CancelScope() as scope:
            async with world.use(ECHO):
                scope.cancel()
                await trio.sleep_forever()
        await world.until(AssociationEnded, 2)
        async with world.use(ECHO):
            pass
    ended = [n for n in world.at_peer if isinstance(n, AssociationEnded)]
    assert {n.ending for n in ended[:2]} == {AssociationOutcome.ABORTED_BY_PEER}
    assert world.reused == [False] * 3


async def test_one_that_the_peer_has_ended_is_given_to_nobody() -> None:
    async with pooling() as world:
        async with world.use(ECHO) as association:
            await association.echo()
        await world.asked[0].association.abort()
        with trio.fail_after(PATIENCE):
            await association.ended.wait()
        async with world.use(ECHO) as another:
            assert another is not association
        assert world.reused == [False, False]


async def test_one_that_nobody_wants_again_is_released() -> None:
    async with pooling(0.01) as world:
        async with world.use(ECHO) as association:
            pass
        with trio.fail_after(PATIENCE):
            await association.ended.wait()
        await world.until(AssociationEnded, 1)


async def test_who_cannot_connect_is_told_as_without_a_pool() -> None:
    async with pooling() as world:
        world.peer = Peer("PEER", "127.0.0.1", free_port())
        with pytest.raises(ConnectError):
            async with world.use(ECHO):
                pass


async def test_nothing_is_kept_where_that_is_switched_off() -> None:
    async with pooling(0.0) as world:
        for _ in range(2):
            async with world.use(ECHO):
                pass
        await world.until(AssociationEnded, 2)
        assert world.reused == []


async def test_who_uses_one_hears_of_its_end() -> None:
    async with pooling() as world, world.use(ECHO) as association:
        await association.echo()
        await world.asked[0].association.abort()
        with pytest.raises(AssociationError):
            await association.echo()
