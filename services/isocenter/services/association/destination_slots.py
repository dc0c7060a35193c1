"""Slots at destinations: how many associations a server requests with each.

Worker processes share the places by files that they lock: a place is a lock, which the system
gives back when its process ends, however that ends.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import field
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import text_of
from isocenter.services.system.file_lock import HAS_FILE_LOCKS, open_lock_file, try_lock

log = logging.getLogger("isocenter.server")

#: How often is looked whether another process has given a place back.
LOOK_SECONDS: Final = 0.05


class Places:
    """So many associations with each destination at once, for whoever asks in turn.

    Args:
        most: with one destination, if nothing else is said of it.
        name_of: the one name of a destination that has several.
        most_of: how many with that one, by that name; its second argument is *most*.
        folder: where processes share their places; made when it is missing.  None: there is
            one process.
    """

    def __init__(
        self,
        most: int,
        folder: Path | None = None,
        *,
        name_of: Callable[[str], str] = lambda destination: destination,
        most_of: Callable[[str, int], int] = lambda destination, most: most,
    ) -> None:
        self.most = most
        self.name_of = name_of
        self.most_of = most_of
        # Where there are no locks, a server has one process.
        self._folder = folder if HAS_FILE_LOCKS else None
        self._destinations: dict[str, _Destination] = {}

    async def take(self, destination: str) -> Place:
        """A place at *destination*, as soon as it is free; first come, first served in a
        process."""
        ae_title = self.name_of(destination)
        here = self._destination(ae_title)
        async with here.turn:
            # Of several processes one waits for a place, and whoever gives one back queues up
            # behind it: a process that always has something to send takes turns with the others.
            turn = await self._look_until(here, lambda: self._lock(here, ae_title, "turn"))
            try:
                return await self._look_until(here, lambda: self._free_place(here, ae_title))
            finally:
                turn.give_back()

    def take_now(self, destination: str) -> Place | None:
        """A place at *destination* if there is one that nobody waits for."""
        ae_title = self.name_of(destination)
        here = self._destination(ae_title)
        if here.turn.locked():
            return None
        turn = self._lock(here, ae_title, "turn")
        if turn is None:
            return None
        try:
            return self._free_place(here, ae_title)
        finally:
            turn.give_back()

    @asynccontextmanager
    async def place(self, destination: str) -> AsyncIterator[None]:
        """A place at *destination* for as long as the body takes."""
        with await self.take(destination):
            yield

    def _destination(self, ae_title: str) -> _Destination:
        return self._destinations.setdefault(ae_title, _Destination())

    async def _look_until(self, here: _Destination, look: Callable[[], Place | None]) -> Place:
        await trio.lowlevel.checkpoint()
        while (found := look()) is None:
            with trio.move_on_after(LOOK_SECONDS):
                await here.given_back.wait()
        return found

    def _free_place(self, here: _Destination, ae_title: str) -> Place | None:
        for number in range(self.most_of(ae_title, self.most)):
            if place := self._lock(here, ae_title, str(number)):
                return place
        return None

    def _lock(self, here: _Destination, ae_title: str, name: str) -> Place | None:
        if name in here.taken:
            return None
        descriptor: int | None = None
        if self._folder is not None:
            try:
                descriptor = _locked(self._folder, f"{quote(ae_title, safe='')}.{name}")
                if descriptor is None:
                    return None
            except OSError as error:
                # What is kept back for that could never be sent.
                if not here.is_unshared:
                    here.is_unshared = True
                    log.error(
                        "workers cannot share their associations with %r (%s): the bound is for "
                        "each of them now",
                        ae_title,
                        text_of(error),
                    )
        here.taken.add(name)
        return Place(here, name, descriptor)


class Place:
    """It is given back at the end of a ``with`` block."""

    def __init__(self, destination: _Destination, name: str, descriptor: int | None) -> None:
        self._destination = destination
        self._name = name
        self._descriptor = descriptor

    def give_back(self) -> None:
        """It is free for others; once."""
        here = self._destination
        here.taken.remove(self._name)
        if self._descriptor is not None:
            os.close(self._descriptor)
        here.given_back.set()
        here.given_back = trio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.give_back()


@dataclass(slots=True)
class _Destination:
    """Places of this process at one destination.

    Attributes:
        turn: whoever waits for a place holds it.
        taken: names of places.
        given_back: the next that is.
        is_unshared: locking files failed.
    """

    turn: trio.Lock = field(default_factory=trio.Lock)
    taken: set[str] = field(default_factory=set)
    given_back: trio.Event = field(default_factory=trio.Event)
    is_unshared: bool = False


def _locked(folder: Path, name: str) -> int | None:
    """A descriptor that holds the lock of a file; None: somebody else has it.

    Raises:
        OSError: the file cannot be locked.
    """
    path = folder / name
    try:
        descriptor = open_lock_file(path)
    except FileNotFoundError:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = open_lock_file(path)
    is_ours = False
    try:
        is_ours = try_lock(descriptor)
    finally:
        if not is_ours:
            os.close(descriptor)
    return descriptor if is_ours else None
