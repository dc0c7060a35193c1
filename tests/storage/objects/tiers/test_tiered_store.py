from __future__ import annotations

import pytest

from isocenter.services.archive.ports import BlockingStore, ObjectStore, RemoteStore
from isocenter.services.archive.tiers.ports import TieredObjects
from isocenter.services.archive.tiers.tier import InstanceAvailability, Tier, key_in
from isocenter.services.errors import StorageError
from isocenter.storage.objects.memory import MemoryStore
from isocenter.storage.objects.tiers.store import TieredStore
from storage.store_contract import KEY, StoreContract, all_keys, content, put

COLD = key_in(Tier.COLD, KEY)


class TestTieredStore(StoreContract):
    @pytest.fixture
    def store(self) -> ObjectStore:
        cold = MemoryStore()
        return TieredStore(MemoryStore(), {Tier.COLD: cold}, {})


def tiered(cold: MemoryStore, availability: InstanceAvailability) -> TieredStore:
    return TieredStore(MemoryStore(), {Tier.COLD: cold}, {Tier.COLD: availability})


async def test_an_object_is_read_where_its_key_says() -> None:
    cold = MemoryStore()
    store = tiered(cold, InstanceAvailability.NEARLINE)
    await put(store, KEY, b"hot")
    await put(cold, KEY, b"cold")
    assert await content(store, KEY) == b"hot"
    assert await content(store, COLD) == b"cold"
    assert await all_keys(store) == {KEY, COLD}
    assert await store.missing([KEY, COLD, "1/2/9.dcm", "~cold/1/2/9.dcm"]) == {
        "1/2/9.dcm",
        "~cold/1/2/9.dcm",
    }
    assert store.availability_of(KEY) is InstanceAvailability.ONLINE
    assert store.availability_of(COLD) is InstanceAvailability.NEARLINE
    # Nothing is fetched beforehand of what has to be brought back.
    assert await store.open_ahead([COLD]) == [None]
    await store.remove([COLD, KEY])
    assert await all_keys(store) == set()


async def test_what_comes_comes_into_the_hot_tier() -> None:
    store = tiered(MemoryStore(), InstanceAvailability.ONLINE)
    with pytest.raises(ValueError, match="hot tier"):
        await put(store, COLD, b"x")


async def test_a_tier_that_is_off_line_says_so_and_misses_nothing() -> None:
    store = tiered(MemoryStore(), InstanceAvailability.OFFLINE)
    with pytest.raises(StorageError, match="off line"):
        await store.open(COLD)
    assert await store.missing([COLD]) == frozenset()


async def test_a_tier_that_nobody_names_is_an_error() -> None:
    store = tiered(MemoryStore(), InstanceAvailability.ONLINE)
    with pytest.raises(StorageError, match=r"tiers\.warm"):
        await store.open(key_in(Tier.WARM, KEY))


async def test_it_offers_what_the_committer_and_health_ask_for() -> None:
    store = tiered(MemoryStore(), InstanceAvailability.ONLINE)
    assert isinstance(store, BlockingStore)
    assert isinstance(store, RemoteStore)
    assert isinstance(store, TieredObjects)
    assert store.publishing([]) is None  # memory does not block
    assert not store.is_away
    await store.look()
