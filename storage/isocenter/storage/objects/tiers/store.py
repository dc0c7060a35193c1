"""Tiered store: objects in the place that their keys name."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final

import trio

from isocenter.services.archive.ports import (
    BlockingStore,
    ObjectStore,
    RemoteStore,
    StagedObject,
    StoredInstance,
)
from isocenter.services.archive.tiers.tier import (
    InstanceAvailability,
    Tier,
    key_in,
    key_within,
    tier_of,
)
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.errors import StorageError

_Published = StorageError | FileExistsError | None

_ONLINE: Final = InstanceAvailability.ONLINE


class TieredStore:
    """See `isocenter.services.archive.ports.ObjectStore`; what comes, comes into the hot tier.

    Args:
        hot: has the keys without a mark.
        others: the other tiers.
        availability: of those that are not on line.
        checks: of tiers that may be away while it looks as if they were there; each blocks, and
            raises `StorageError` then.
    """

    def __init__(
        self,
        hot: ObjectStore,
        others: Mapping[Tier, ObjectStore],
        availability: Mapping[Tier, InstanceAvailability],
        checks: Mapping[Tier, Callable[[], None]] | None = None,
    ) -> None:
        self._hot = hot
        self._others = dict(others)
        self._availability = dict(availability)
        self._checks = dict(checks or {})

    @property
    def tiers(self) -> Mapping[Tier, ObjectStore]:
        return {Tier.HOT: self._hot, **self._others}

    def availability_of(self, key: str) -> InstanceAvailability:
        """See `TieredObjects.availability_of`."""
        return self._availability.get(tier_of(key), _ONLINE)

    async def check_place(self, tier: Tier) -> None:
        """See `TieredObjects.check_place`."""
        if tier in self._checks:
            await trio.to_thread.run_sync(self._checks[tier])
        else:
            await trio.lowlevel.checkpoint()

    def _store_of(self, tier: Tier) -> ObjectStore:
        store = self._hot if tier is Tier.HOT else self._others.get(tier)
        if store is None:
            raise StorageError(
                f"an object is in the tier {tier.value}, and the settings name none (tiers."
                f"{tier.value})"
            )
        return store

    # -- In ---------------------------------------------------------------------------

    @property
    def memory_per_object(self) -> int | None:
        return self._hot.memory_per_object

    async def stage(self, size_hint: int | None = None) -> StagedObject:
        return await self._hot.stage(size_hint)

    async def publish(self, staged: Sequence[tuple[StagedObject, str]]) -> Sequence[_Published]:
        _check_hot(staged)
        return await self._hot.publish(staged)

    def publishing(
        self, staged: Sequence[tuple[StagedObject, str]]
    ) -> Callable[[], Sequence[_Published]] | None:
        """See `BlockingStore.publishing`."""
        _check_hot(staged)
        return self._hot.publishing(staged) if isinstance(self._hot, BlockingStore) else None

    async def prepare_always(self) -> None:
        """See `BlockingStore.prepare_always`."""
        if isinstance(self._hot, BlockingStore):
            await self._hot.prepare_always()
        else:
            await trio.sleep_forever()

    async def settle(self, staged: Sequence[StagedObject]) -> None:
        await self._hot.settle(staged)

    async def sync(self, keys: Sequence[str]) -> None:
        for tier, places in _by_tier(keys).items():
            await self._store_of(tier).sync([key_within(keys[place]) for place in places])

    async def recover(
        self, look_up: Callable[[Sequence[str]], Awaitable[Sequence[StoredInstance | None]]]
    ) -> int:
        return await self._hot.recover(look_up)

    async def salvage(self, other_key: Callable[[str], str]) -> None:
        await self._hot.salvage(other_key)

    async def check(self) -> Sequence[str]:
        return await self._hot.check()

    @property
    def is_away(self) -> bool:
        """See `RemoteStore.is_away`: without the hot tier nothing goes on."""
        return isinstance(self._hot, RemoteStore) and self._hot.is_away

    async def look(self) -> None:
        """See `RemoteStore.look`."""
        if isinstance(self._hot, RemoteStore):
            await self._hot.look()
        else:
            await trio.lowlevel.checkpoint()

    # -- Out --------------------------------------------------------------------------

    async def open(self, key: str) -> ObjectReader:
        tier = tier_of(key)
        if tier is Tier.HOT:
            return await self._hot.open(key)
        try:
            return await self._store_of(tier).open(key_within(key))
        except KeyError:
            if self._availability.get(tier) is not InstanceAvailability.OFFLINE:
                raise
        raise StorageError(
            f"the tier {tier.value} is off line; connect it, or have the object's study brought "
            "back with isocenter tiers move --to hot",
            comment="stored off line",
        )

    async def open_ahead(
        self, keys: Sequence[str], *, reads: bool = True
    ) -> Sequence[ObjectReader | None]:
        readers: list[ObjectReader | None] = [None] * len(keys)
        for tier, places in _by_tier(keys).items():
            if self._availability.get(tier, _ONLINE) is not _ONLINE:
                continue
            opened = await self._store_of(tier).open_ahead(
                [key_within(keys[place]) for place in places], reads=reads
            )
            for place, reader in zip(places, opened, strict=True):
                readers[place] = reader
        return readers

    async def missing(self, keys: Sequence[str]) -> frozenset[str]:
        found: set[str] = set()
        for tier, places in _by_tier(keys).items():
            if self._availability.get(tier) is InstanceAvailability.OFFLINE:
                continue  # nobody can look
            there = await self._store_of(tier).missing([key_within(keys[p]) for p in places])
            found.update(key_in(tier, key) for key in there)
        return frozenset(found)

    async def stored_at(self, key: str) -> float:
        return await self._store_of(tier_of(key)).stored_at(key_within(key))

    async def remove(self, keys: Sequence[str]) -> None:
        for tier, places in _by_tier(keys).items():
            await self._store_of(tier).remove([key_within(keys[place]) for place in places])

    @asynccontextmanager
    async def keys(self) -> AsyncIterator[AsyncIterator[Sequence[str]]]:
        async with aclosing(self._keys()) as blocks:
            yield blocks

    async def _keys(self) -> AsyncGenerator[Sequence[str], None]:
        for tier, store in self.tiers.items():
            async with store.keys() as blocks:
                async for block in blocks:
                    yield [key_in(tier, key) for key in block]

    async def aclose(self) -> None:
        for store in self.tiers.values():
            await store.aclose()


def _check_hot(staged: Sequence[tuple[StagedObject, str]]) -> None:
    if any(tier_of(key) is not Tier.HOT for _, key in staged):
        raise ValueError("what comes, comes into the hot tier")


def _by_tier(keys: Sequence[str]) -> dict[Tier, list[int]]:
    """Places of the keys."""
    found: dict[Tier, list[int]] = {}
    for place, key in enumerate(keys):
        found.setdefault(tier_of(key), []).append(place)
    return found
