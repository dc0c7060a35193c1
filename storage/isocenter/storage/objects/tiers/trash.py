"""Trash of a tiered store: what is deleted stays in its tier."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from isocenter.services.archive.deletion.ports import TrashContent, TrashFiles
from isocenter.services.archive.tiers.tier import Tier, key_in, key_within, tier_of
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.errors import StorageError


class TieredTrash:
    """See `isocenter.services.archive.deletion.ports.TrashFiles`.

    Args:
        tiers: the trash of each; the lock of the hot one is that of all.
    """

    def __init__(self, tiers: Mapping[Tier, TrashFiles]) -> None:
        self._tiers = dict(tiers)
        self._hot = tiers[Tier.HOT]
        #: What is being deleted under the lock, for the tiers that have something of it.
        self._manifests: dict[str, bytes] = {}

    def _trash_of(self, key: str) -> TrashFiles:
        tier = tier_of(key)
        if tier not in self._tiers:
            raise StorageError(
                f"an object is in the tier {tier.value}, and the settings name none (tiers."
                f"{tier.value})"
            )
        return self._tiers[tier]

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """See `TrashFiles.locked`."""
        async with self._hot.locked():
            try:
                yield
            finally:
                self._manifests.clear()

    async def begin(self, deletion_id: str, manifest: bytes) -> None:
        """See `TrashFiles.begin`."""
        self._manifests[deletion_id] = manifest
        await self._hot.begin(deletion_id, manifest)

    async def take(self, deletion_id: str, keys: Sequence[str]) -> Sequence[str]:
        """See `TrashFiles.take`."""
        missing: list[str] = []
        for tier in self._tiers:
            within = [key_within(key) for key in keys if tier_of(key) is tier]
            if not within:
                continue
            if tier is not Tier.HOT:
                manifest = self._manifests.get(deletion_id, b"{}")
                await self._tiers[tier].begin(deletion_id, manifest)
            found = await self._tiers[tier].take(deletion_id, within)
            missing += [key_in(tier, key) for key in found]
        for key in keys:
            self._trash_of(key)
        return missing

    async def is_taken(self, key: str) -> bool:
        """See `TrashFiles.is_taken`."""
        return await self._trash_of(key).is_taken(key_within(key))

    async def give_back(self, deletion_id: str, key: str, target: str) -> None:
        """See `TrashFiles.give_back`."""
        await self._trash_of(key).give_back(deletion_id, key_within(key), key_within(target))

    async def take_again(self, deletion_id: str, key: str, target: str) -> None:
        """See `TrashFiles.take_again`."""
        await self._trash_of(key).take_again(deletion_id, key_within(key), key_within(target))

    async def remove(self, deletion_id: str, keys: Sequence[str]) -> None:
        """See `TrashFiles.remove`."""
        for key in keys:
            self._trash_of(key)
        for tier, trash in self._tiers.items():
            if within := [key_within(key) for key in keys if tier_of(key) is tier]:
                await trash.remove(deletion_id, within)

    async def end(self, deletion_id: str) -> None:
        """See `TrashFiles.end`."""
        for trash in self._tiers.values():
            await trash.end(deletion_id)

    async def open(self, deletion_id: str, key: str) -> ObjectReader:
        """See `TrashFiles.open`."""
        return await self._trash_of(key).open(deletion_id, key_within(key))

    @asynccontextmanager
    async def contents(self) -> AsyncIterator[AsyncIterator[TrashContent]]:
        """See `TrashFiles.contents`."""
        async with aclosing(self._contents()) as contents:
            yield contents

    async def _contents(self) -> AsyncGenerator[TrashContent, None]:
        for tier, trash in self._tiers.items():
            async with trash.contents() as contents:
                async for content in contents:
                    keys = tuple(key_in(tier, key) for key in content.keys)
                    yield replace(content, keys=keys)
