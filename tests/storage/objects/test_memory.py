from __future__ import annotations

import pytest

from isocenter.services.archive.ports import ObjectStore
from isocenter.services.errors import StorageError
from isocenter.storage.objects.memory import MemoryStore
from storage.store_contract import KEY, StoreContract, all_keys, content, put


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return MemoryStore()


async def test_capacity_is_kept_and_comes_back() -> None:
    store = MemoryStore(capacity=10)
    await put(store, "a", b"12345678")
    staged = await store.stage()
    await staged.write([b"123"])
    (outcome,) = await store.publish([(staged, "b")])
    assert isinstance(outcome, StorageError)
    assert outcome.out_of_resources
    assert await all_keys(store) == {"a"}
    await store.remove(["a", "a"])
    await put(store, "b", b"1234567890")


async def test_closing_forgets() -> None:
    store = MemoryStore()
    await put(store, KEY, b"x")
    assert await content(store, KEY) == b"x"
    await store.aclose()
    assert await all_keys(store) == set()
