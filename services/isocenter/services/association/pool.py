"""Pool of requested associations: what one use leaves is there for the next.

An association is kept for a short time after its use and given to whoever asks next for no more
contexts, roles and window than it has.  None that is idle costs anybody a place: before another
one is opened with the same peer, those that are idle are released.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import field
from typing import Final, Generic, Protocol, TypeVar

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.association.peer import Peer
from isocenter.services.association.requestor import Context
from isocenter.services.notices import Notices, WingNotice

#: How long releasing may take when the server stops.
_GOODBYE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationTaken(WingNotice):
    """Somebody has an association with a peer, and maybe one that stood already."""

    is_reused: bool


class EndingAssociation(Protocol):
    """An association of which can be seen that it is over."""

    @property
    def ended(self) -> trio.Event: ...


A = TypeVar("A", bound=EndingAssociation)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is asked of a peer.

    Attributes:
        path: what else has to be the same: TLS, bandwidth.
    """

    peer: Peer
    contexts: Sequence[Context]
    scp_roles: frozenset[str] = frozenset()
    operations_window: int = 1
    path: Hashable = None

    def covers(self, other: Proposal) -> bool:
        """Whether an association that was requested so can do what is asked by *other*."""
        return (
            (self.peer, self.path) == (other.peer, other.path)
            and self.operations_window >= other.operations_window
            and self.scp_roles >= other.scp_roles
            and _set_of(self.contexts) >= _set_of(other.contexts)
        )


def _set_of(contexts: Sequence[Context]) -> set[tuple[str, tuple[str, ...]]]:
    return {(abstract, tuple(syntaxes)) for abstract, syntaxes in contexts}


class _Broken(Exception):
    """Whoever used an association has left it in the middle of something."""


@dataclass(slots=True, eq=False)
class _Held(Generic[A]):
    """An association of the pool, and its task.

    Attributes:
        opening: what cancels it until it is established.
        using: what is to end with it.
        established: it is, or failed to be.
        over: nobody wants it any more.
        gone: its task has ended.
        uses: how often it was given away.
    """

    proposal: Proposal
    opening: trio.CancelScope = field(default_factory=trio.CancelScope)
    using: trio.CancelScope = field(default_factory=trio.CancelScope)
    established: trio.Event = field(default_factory=trio.Event)
    over: trio.Event = field(default_factory=trio.Event)
    gone: trio.Event = field(default_factory=trio.Event)
    association: A | None = None
    fault: BaseException | None = None
    is_sound: bool = True
    uses: int = 0


class AssociationPool(Generic[A]):
    """Gives associations, and keeps them while `run` runs; before and after, each use has its own.

    Args:
        idle_seconds: how long one is kept after a use; 0: not at all.
        notices: are told of each use.
    """

    def __init__(self, idle_seconds: float, notices: Notices) -> None:
        self._idle_seconds = idle_seconds
        self._notices = notices
        self._nursery: trio.Nursery | None = None
        self._idle: list[_Held[A]] = []
        self._all: set[_Held[A]] = set()

    async def run(self) -> None:
        """Until cancelled; then what is idle is released."""
        holding = trio.CancelScope(shield=True)

        async def hold_all() -> None:
            with holding:
                async with trio.open_nursery() as self._nursery:
                    await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold_all)
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None
                with trio.move_on_after(_GOODBYE_SECONDS, shield=True):
                    await self._release(list(self._idle))
                    for held in list(self._all):
                        await held.gone.wait()
                holding.cancel()

    @asynccontextmanager
    async def association(
        self, proposal: Proposal, connect: Callable[[], AbstractAsyncContextManager[A]]
    ) -> AsyncIterator[A]:
        """One for as long as the body takes; what the body raises ends it.

        Args:
            connect: opens one, as *proposal* says.

        Raises:
            What *connect* raises.
        """
        if self._nursery is None or not self._idle_seconds:
            async with connect() as association:
                yield association
            return
        held = self._idle_one(proposal)
        self._notices.publish(AssociationTaken(is_reused=held is not None))
        if held is None:
            await self.release_idle(proposal.peer)
            held = await self._opened(self._nursery, proposal, connect)
        assert held.association is not None
        held.uses += 1
        held.using = trio.CancelScope()
        is_sound = False
        try:
            with held.using:
                yield held.association
                is_sound = True
        finally:
            await self._give_back(held, is_sound=is_sound)
        if held.using.cancelled_caught and held.fault is not None:
            raise held.fault

    async def _give_back(self, held: _Held[A], *, is_sound: bool) -> None:
        """Keep it for the next use, or end it."""
        is_alive = held.association is not None and not held.association.ended.is_set()
        if is_sound and is_alive and self._nursery is not None:
            self._idle.append(held)
            self._nursery.start_soon(self._expire, held, held.uses)
            return
        held.is_sound = is_sound
        held.over.set()
        with trio.CancelScope(shield=True):
            await held.gone.wait()

    async def release_idle(self, peer: Peer) -> None:
        """Release what is idle with *peer*: somebody is about to open an association of his own."""
        place = (peer.host, peer.port)
        await self._release(
            [
                held
                for held in self._idle
                if (held.proposal.peer.host, held.proposal.peer.port) == place
            ]
        )

    def _idle_one(self, proposal: Proposal) -> _Held[A] | None:
        """The one that was used last of those that fit and live."""
        for held in reversed(self._idle):
            alive = held.association is not None and not held.association.ended.is_set()
            if alive and held.proposal.covers(proposal):
                self._idle.remove(held)
                return held
        return None

    async def _opened(
        self,
        nursery: trio.Nursery,
        proposal: Proposal,
        connect: Callable[[], AbstractAsyncContextManager[A]],
    ) -> _Held[A]:
        held: _Held[A] = _Held(proposal)
        self._all.add(held)
        nursery.start_soon(self._hold, held, connect)
        try:
            await held.established.wait()
        except trio.Cancelled:
            held.opening.cancel()
            held.over.set()
            with trio.CancelScope(shield=True):
                await held.gone.wait()
            raise
        if held.association is None:
            await held.gone.wait()
            assert held.fault is not None
            raise held.fault
        return held

    async def _hold(
        self, held: _Held[A], connect: Callable[[], AbstractAsyncContextManager[A]]
    ) -> None:
        """The task of an association: what opened it has to end it."""
        try:
            with held.opening:
                async with connect() as association:
                    held.association = association
                    held.established.set()
                    await held.over.wait()
                    if not held.is_sound:
                        raise _Broken
        except _Broken:
            pass
        except Exception as error:
            # Whoever uses it hears of it; of one that is idle, nobody needs to.
            held.fault = error
            held.using.cancel()
        finally:
            self._forget(held)
            held.established.set()
            held.gone.set()

    async def _expire(self, held: _Held[A], uses: int) -> None:
        """Release it if nobody has wanted it meanwhile, or when the peer has ended it."""
        assert held.association is not None
        with trio.move_on_after(self._idle_seconds):
            await held.association.ended.wait()
        if held in self._idle and held.uses == uses:
            await self._release([held])

    async def _release(self, some: Sequence[_Held[A]]) -> None:
        for held in some:
            if held in self._idle:
                self._idle.remove(held)
            held.over.set()
        for held in some:
            await held.gone.wait()

    def _forget(self, held: _Held[A]) -> None:
        self._all.discard(held)
        if held in self._idle:
            self._idle.remove(held)
